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


def steps_set_aside(checkpoints: Path) -> set[int]:
    """Steps of checkpoints that lie in lines that were set aside; the run's own line may have reached them again since."""
    return {step for line in _lines(checkpoints) for step in CheckpointCatalog(line).steps()}


def bytes_set_aside(checkpoints: Path) -> int:
    """Bytes of the checkpoints in lines that were set aside, as their manifests count them."""
    return sum(manifest.size_bytes for line in _lines(checkpoints) for manifest in CheckpointCatalog(line).list())


def unpin_set_aside(checkpoints: Path, step: int) -> bool:
    """Take the protection from checkpoints of a step that lie in lines. Returns whether any was pinned."""
    pinned = [one for one in map(CheckpointCatalog, _lines(checkpoints)) if step in one.steps() and one.pinned(step)]
    for catalog in pinned:
        catalog.unpin(step)
    return bool(pinned)


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

    def delete(self, may_write: Callable[[], None] = lambda: None) -> int:
        """Delete it. Returns the bytes freed. Should it be cut off, the next that is found goes on.

        Args:
            may_write: asked before anything is deleted; raises Fenced when a later attempt works here.
        """
        catalog = CheckpointCatalog(self.line, may_write)
        freed = catalog.clean() + sum(catalog.delete(step) for step in reversed(self.steps))
        if self.all:
            freed += unshared_bytes(self.line)
            shutil.rmtree(self.line)
        return freed


def dispensable(checkpoints: Path) -> Sequence[Dispensable]:
    """What of the lines that were set aside nobody needs, in an order in which it can go: inner lines first.

    Pinned checkpoints stay, and those that a branch or a line that stays descends from. Call it, and delete what it finds, with
    the run's lock held.
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
        if may_go or everything or catalog.condemned_steps():
            found.append(Dispensable(line, may_go, everything))
    return found


def lines_that_go(found: Sequence[Dispensable]) -> frozenset[str]:
    """Names of lines of which nothing stays, as `CheckpointCatalog.branches` gives them: what they left may go too."""
    return frozenset(one.line.name for one in found if one.all)


def _lines(checkpoints: Path) -> list[Path]:
    """Directories of all lines, those that lie in others before these; what has another name is somebody's own."""
    places = sorted(place for place in checkpoints.glob(f"{ABANDONED}*") if place.is_dir())
    lines = [place for place in places if place.name.removeprefix(ABANDONED).isdecimal()]
    return [each for line in lines for each in (*_lines(line), line)]
