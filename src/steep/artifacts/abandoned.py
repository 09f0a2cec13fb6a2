"""Lines that were set aside: RUN/checkpoints/abandoned-N/, each a catalog of checkpoints, with the lines that had left it inside.

Nothing resumes from them. They are kept until somebody wants their space.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import unshared_bytes

ABANDONED = "abandoned-"


def bytes_set_aside(checkpoints: Path) -> int:
    """Bytes of the checkpoints in lines that were set aside, as their manifests count them."""
    return sum(manifest.size_bytes for line in _lines(checkpoints) for manifest in CheckpointCatalog(line).list())


@dataclass(frozen=True, slots=True)
class Dispensable:
    """What of a line may go.

    Attributes:
        line: its directory.
        steps: of the checkpoints that may.
        all: whether nothing is left then, so that the directory goes too.
    """

    line: Path
    steps: tuple[int, ...]
    all: bool

    @property
    def freeable_bytes(self) -> int:
        """What its going frees; files that a branch shares are not freed."""
        if self.all:
            return unshared_bytes(self.line)
        catalog = CheckpointCatalog(self.line)
        return sum(unshared_bytes(catalog.path(step)) for step in self.steps)


def dispensable(checkpoints: Path) -> Sequence[Dispensable]:
    """What of the lines that were set aside nobody needs, in an order in which it can go: inner lines first.

    Pinned checkpoints stay, and those that a branch or a line that stays descends from.
    """
    found: list[Dispensable] = []
    going: set[Path] = set()
    for line in _lines(checkpoints):
        catalog = CheckpointCatalog(line)
        steps = catalog.steps()
        may_go = tuple(
            step
            for step in steps
            if not catalog.pinned(step) and all(line / name in going for name in catalog.branches(step))
        )
        everything = len(may_go) == len(steps) and all(inner in going for inner in line.glob(f"{ABANDONED}*"))
        if everything:
            going.add(line)
        if may_go or everything:
            found.append(Dispensable(line, may_go, everything))
    return found


def lines_that_go(found: Sequence[Dispensable]) -> frozenset[str]:
    """Names of lines of which nothing stays, as `CheckpointCatalog.branches` gives them: what they left may go too."""
    return frozenset(one.line.name for one in found if one.all)


def delete_abandoned(checkpoints: Path, may_write: Callable[[], None] = lambda: None) -> int:
    """Delete what `dispensable` says. Returns the bytes freed. Should it be cut off, the same call goes on.

    Call it with the run's lock held.

    Args:
        checkpoints: of the run.
        may_write: asked before anything is deleted; raises Fenced when a later attempt works here.
    """
    freed = 0
    for one in dispensable(checkpoints):
        catalog = CheckpointCatalog(one.line, may_write)
        freed += catalog.clean() + sum(catalog.delete(step) for step in reversed(one.steps))
        if one.all:
            freed += unshared_bytes(one.line)
            shutil.rmtree(one.line)
    return freed


def _lines(checkpoints: Path) -> list[Path]:
    """Directories of all lines, those that lie in others before these."""
    found = (place for place in checkpoints.rglob(f"{ABANDONED}*") if place.is_dir())
    return sorted(found, key=lambda place: (-len(place.parts), place))
