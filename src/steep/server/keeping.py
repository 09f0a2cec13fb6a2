"""Which checkpoints of a job that rests are kept when space is wanted, and what the others took.

Never deleted: pinned ones, the selected one, the newest that is known to be valid, the newest and the best ones that are asked
for, and those that a branch or a line that stays descends from. The rule itself is in `artifacts/retention.py`. Lines that were
set aside go whole, but for what is pinned in them or branched from.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import replace

from steep.artifacts.abandoned import bytes_set_aside, delete_abandoned, dispensable, lines_that_go
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.retention import CheckpointFacts, RetentionPolicy, to_delete
from steep.server.removal import held, remove_checkpoint, require_rest
from steep.server.service import Service
from steep.server.store.paging import MAX_PAGE_SIZE, PageRequest
from steep.spec.api.checkpoints import CheckpointView, Pruned
from steep.spec.units import format_bytes


def prune(service: Service, job_id: str, *, keep_last: int, keep_best: int, why: str, dry_run: bool = False) -> Pruned:
    """Delete the checkpoints of a job that need not be kept, those of lines that were set aside too, and go on with deletions
    that were cut off.

    Args:
        service: of the job.
        job_id: of one that does not work now.
        keep_last: so many of the newest are kept.
        keep_best: and so many of the best.
        why: stands in the event of each that goes.
        dry_run: only say which would go.

    Raises:
        Conflict: a worker, or somebody else, is at its checkpoints.
        NotFound: there is no such job.
    """
    run = service.run(job_id)
    job = service.store.jobs.get(job_id, service.now())
    budget = job.outcome.forgetting_budget
    policy = RetentionPolicy(keep_last, keep_best)
    if budget is not None:
        policy = replace(policy, forgetting_budget=budget)
    views = service.store.checkpoints.list(job_id, PageRequest(page_size=MAX_PAGE_SIZE)).items
    catalog = run.catalog()
    aside = dispensable(run.checkpoints)
    aside_steps = tuple(sorted(step for line in aside for step in line.steps))
    steps = _dispensable(views, catalog, service.store.jobs.branched_at(job_id), policy, lines_that_go(aside))
    uncounted = job.cost.aside_bytes != bytes_set_aside(run.checkpoints)
    if dry_run or not (steps or aside or uncounted or catalog.condemned_steps()):
        sizes = {view.step: view.size_bytes for view in views}
        freed_bytes = sum(sizes[step] for step in steps) + sum(line.freeable_bytes for line in aside)
        return Pruned(steps=tuple(steps), aside_steps=aside_steps, freed_bytes=freed_bytes)
    require_rest(service, job_id)
    with held(service, job_id):
        aside_freed = delete_abandoned(run.checkpoints, catalog.may_write)
        left = bytes_set_aside(run.checkpoints)
        service.store.checkpoints.count_aside(job_id, left, aside_freed, f"what was set aside {why}", service.now())
        begun, known = catalog.condemned_steps(), {view.step for view in views}
        for step in begun:
            if step not in known:  # it is written down already
                catalog.bury(step)
        steps = sorted({*steps, *known.intersection(begun)})
        freed = [remove_checkpoint(service, job_id, step, why).freed_bytes for step in steps]
    return Pruned(steps=tuple(steps), aside_steps=aside_steps, freed_bytes=aside_freed + sum(freed))


def _dispensable(
    views: Sequence[CheckpointView],
    catalog: CheckpointCatalog,
    branched: Collection[int],
    policy: RetentionPolicy,
    gone: Set[str],
) -> list[int]:
    """Which may go; `branched` are steps that jobs branched from, and `gone` descendants that go themselves."""
    sound = [view.step for view in views if view.state != "damaged"]
    if not sound:
        return []  # nothing to go back to but what may perhaps be mended
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
