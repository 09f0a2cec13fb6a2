"""`steep gpus`: what there is to compute with, who holds it, until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steep.cli.service.options import JsonOption

if TYPE_CHECKING:
    from steep.spec.api.house import DeviceView


def gpus(json: bool = JsonOption) -> None:
    """GPUs of the service (or slots of its processor): what there is, who holds it, until when."""
    from steep.cli.output import print_json
    from steep.cli.service.connect import connected
    from steep.cli.tables import print_table

    with connected() as client:
        views = list(client.devices.list())
    if json:
        print_json([view.model_dump(mode="json") for view in views])
        return
    headers = ("id", "model", "memory", "where", "held by", "since", "free", "state")
    print_table(headers, map(_row, views), empty="The service has no devices.", right=("memory",))


def _row(view: DeviceView) -> list[str]:
    from steep.cli.tables import ago
    from steep.spec.units import format_bytes

    memory = "-"
    if view.memory_bytes:
        used = f"{format_bytes(view.memory_used_bytes)} of " if view.memory_used_bytes is not None else ""
        memory = used + format_bytes(view.memory_bytes)
    state = "in use" if view.job_id else "free"
    if not view.healthy:
        state = f"set aside: {view.detail}" if view.detail else "set aside"
    return [
        view.id,
        view.model,
        memory,
        "/".join(part for part in (view.backend, view.location) if part),
        view.job_id or "-",
        ago(view.held_since),
        ago(view.expected_free_at) if view.job_id else "now" if view.healthy else "-",
        state,
    ]
