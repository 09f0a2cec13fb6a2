"""The local backend as the suite of all backends wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contract.backends import Harness

from steep.compute.local.backend import LocalBackend
from steep.compute.local.starting import Program

COLD = Program("tests.contract.little_worker", preload=None)
WARM = Program("tests.contract.little_worker", preload="tests.contract.little_preload:preload")


@contextmanager
def lose_contact(handle: str) -> Iterator[None]:
    """The records of a worker cannot be reached: in their place is a link that leads to itself."""
    attempts = Path(handle.partition("@")[2]) / "attempts"
    aside = attempts.rename(attempts.with_name("aside"))
    attempts.symlink_to(attempts.name)
    try:
        yield
    finally:
        attempts.unlink()
        aside.rename(attempts)


def make_harness(place: Path, backend: LocalBackend) -> Harness:
    recipe = (
        "from steep.compute.local.backend import LocalBackend\nfrom steep.compute.local.starting import Program\n"
        f"backend = LocalBackend(Path({str(place)!r}), cpu_slots=4, warm=False, program={COLD!r})"
    )
    return Harness(backend, recipe, place / "runs", lose_contact)
