"""Which checkpoints of a job that rests are kept when space is wanted, and what the others took.

Never deleted: pinned ones, the selected one, the newest that is known to be valid, the newest and the best ones that are asked
for, and those that a branch or a line that stays descends from. The rule itself is in `artifacts/retention.py`. Lines that were
set aside go whole, but for what is pinned in them or branched from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, replace

from steep.artifacts.abandoned import Dispensable, bytes_set_aside, dispensable, lines_that_go
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import Lineage
from steep.artifacts.retention import CheckpointFacts, RetentionPolicy, to_delete
from steep.server.removal import held, remove_checkpoint, require_rest
from steep.server.service import Service
from steep.server.store.paging import MAX_PAGE_SIZE, PageRequest
from steep.spec.api.checkpoints import CheckpointView, Pruned
from steep.spec.errors import Conflict
from steep.spec.units import format_bytes


def prune(
    service: Service,
    job_id: str,
    *,
    keep_last: int,
    keep_best: int,
    why: str,
    only_set_aside: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Delete the checkpoints of a job that need not be kept, those of lines that were set aside too, and go on with deletions
    that were cut off.

    Args:
        service: of the job.
        job_id: of one that does not work now.
        keep_last: so many of the newest are kept.
        keep_best: and so many of the best.
        why: stands in the event of each that goes.
        only_set_aside: all of the job's own line is kept.
        dry_run: only say which would go.

    Raises:
        Conflict: a worker, or somebody else, is at its checkpoints, or its run directory is not there.
        DamagedArtifact: what was set aside cannot be told.
        NotFound: there is no such job.
    """
    stored_bytes = service.store.jobs.get(job_id, service.now()).cost.stored_bytes
    if not service.run(job_id).job_file.exists():  # a disk that is not mounted says nothing of what lies on it
        if not stored_bytes:  # it has not begun
            return Pruned()
        raise Conflict("its run directory is not there", where=job_id, cure="Mount the disk that it lies on.")
    policy = None if only_set_aside else RetentionPolicy(keep_last, keep_best)
    if dry_run:
        return _found(service, job_id, policy).planned
    require_rest(service, job_id)
    with held(service, job_id):
        _write_down_what_was_set_aside(service, job_id)
        found = _found(service, job_id, policy)
        catalog, known = service.run(job_id).catalog(), {view.step for view in found.views}
        begun = catalog.condemned_steps()
        for step in begun:
            if step not in known:  # it is written down already
                catalog.bury(step)
        freed = sum(_delete_line(service, job_id, line, why) for line in found.aside)
        steps = sorted({*found.steps, *known.intersection(begun)})
        freed += sum(remove_checkpoint(service, job_id, step, why).freed_bytes for step in steps)
        _count_aside(service, job_id)
    return Pruned(steps=tuple(steps), aside_steps=found.aside_steps, freed_bytes=freed)


@dataclass(frozen=True)
class _Found:
    """What of a job may go.

    Attributes:
        views: rows of checkpoints that are there.
        steps: of those that may go.
        aside: of lines that were set aside.
    """

    views: Sequence[CheckpointView]
    steps: Sequence[int]
    aside: Sequence[Dispensable]

    @property
    def aside_steps(self) -> tuple[int, ...]:
        return tuple(sorted(step for line in self.aside for step in line.steps))

    @property
    def planned(self) -> Pruned:
        """What would go."""
        sizes = {view.step: view.size_bytes for view in self.views}
        freed = sum(sizes[step] for step in self.steps) + sum(line.freeable_bytes for line in self.aside)
        return Pruned(steps=tuple(self.steps), aside_steps=self.aside_steps, freed_bytes=freed)


def _found(service: Service, job_id: str, policy: RetentionPolicy | None) -> _Found:
    """A row without its checkpoint, as of one that the database does not know yet to be set aside, keeps nothing else from staying.

    Args:
        policy: of the job's own line; None keeps all of it.
    """
    catalog = service.run(job_id).catalog()
    there = {*catalog.steps(), *catalog.condemned_steps()}
    views = [view for view in service.store.checkpoints.list(job_id, _ALL).items if view.step in there]
    if not any(view.state != "damaged" and view.step in catalog.steps() for view in views):
        return _Found(views, (), ())  # nothing to go back to but what may perhaps be mended
    aside = dispensable(catalog.directory)
    if policy is None:
        return _Found(views, (), aside)
    budget = service.store.jobs.get(job_id, service.now()).outcome.forgetting_budget
    if budget is not None:
        policy = replace(policy, forgetting_budget=budget)
    branched = service.store.jobs.branched_at(job_id)
    return _Found(views, _dispensable(views, catalog, branched, policy, lines_that_go(aside)), aside)


_ALL = PageRequest(page_size=MAX_PAGE_SIZE)


def _write_down_what_was_set_aside(service: Service, job_id: str) -> None:
    """Of which the report was lost, or is on its way."""
    run = service.run(job_id)
    set_aside_at, there = Lineage.read(run).set_aside_at(), set(run.catalog().steps())
    for view in service.store.checkpoints.list(job_id, _ALL).items:
        if view.step not in there and set_aside_at.get(view.step, 0.0) >= view.created_at:
            service.store.checkpoints.set_one_aside(job_id, view.step, view.created_at, service.now())


def _delete_line(service: Service, job_id: str, line: Dispensable, why: str) -> int:
    """Delete what may go of a line; what that freed is written down at once."""
    freed = line.delete(service.run(job_id).catalog().may_write)
    _count_aside(service, job_id, freed, f"what was set aside {why}")
    return freed


def _count_aside(service: Service, job_id: str, freed_bytes: int = 0, detail: str = "") -> None:
    left = bytes_set_aside(service.run(job_id).checkpoints)
    service.store.checkpoints.count_aside(job_id, left, freed_bytes, detail, service.now())


def _dispensable(
    views: Sequence[CheckpointView],
    catalog: CheckpointCatalog,
    branched: Collection[int],
    policy: RetentionPolicy,
    gone: Set[str],
) -> list[int]:
    """Which may go; `branched` are steps that jobs branched from, and `gone` descendants that go themselves."""
    sound = [view.step for view in views if view.state != "damaged"]
    known = max((view.step for view in views if view.state == "valid"), default=None)
    return to_delete(
        [
            CheckpointFacts(
                step=view.step,
                gain=view.gain,
                forgetting=view.forgetting if view.general_bpb else 0.0,
                pinned=view.pinned
                or view.selected
                or view.step == known
                or catalog.pinned(view.step)
                or _is_mendable(view),
                ancestor=view.step in branched or not gone >= set(catalog.branches(view.step)),
                valid=view.step in sound,
            )
            for view in views
        ],
        policy,
    )


def _is_mendable(view: CheckpointView) -> bool:
    """It is damaged here, and its copy may be whole."""
    return view.state == "damaged" and view.uploaded


def told(pruned: Pruned) -> str:
    """What went, as a sentence."""
    count = len(pruned.steps) + len(pruned.aside_steps)
    return f"{count} checkpoint{'' if count == 1 else 's'} deleted, {format_bytes(pruned.freed_bytes)} freed"
