"""The devices that there are, as placement and estimates see them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from steep.compute.contract import Backend, Device
from steep.server.waiting import OfferedDevice
from steep.spec.errors import SteepError

log = logging.getLogger(__name__)


def offered_devices(backends: Mapping[str, Backend]) -> Iterator[tuple[Device, OfferedDevice]]:
    """All devices, lent ones too; those of a backend that does not answer now are left out."""
    for name, backend in backends.items():
        try:
            capacity = backend.capacity()
        except (SteepError, OSError) as error:
            log.warning("The devices of %s cannot be read now: %s", name, error)
            continue
        for state in capacity.devices:
            device = state.device
            yield device, OfferedDevice(name, device.id, device.kind, device.model, device.location, state.usable)
