"""Which checkpoints of a job that rests are kept when space is wanted, and what the others took.

Never deleted: pinned ones, the selected one, the newest that is known to be valid, the newest and the best ones that are asked
for, and those that a branch or an abandoned line descends from. The rule itself is in `artifacts/retention.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.retention import CheckpointFacts, RetentionPolicy, to_delete
from steep.server.removal import held, remove_checkpoint
from steep.server.service import Service
from steep.server.store.paging import MAX_PAGE_SIZE, PageRequest
from steep.spec.api.checkpoints import CheckpointView, Pruned
from steep.spec.units import format_bytes


def prune(service: Service, job_id: str, *, keep_last: int, keep_best: int, why: str, dry_run: bool = False) -> Pruned:
    """Delete the checkpoints of a job that need not be kept, and go on with deletions that were cut off.

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
    budget = service.store.jobs.get(job_id, service.now()).outcome.forgetting_budget
    policy = RetentionPolicy(keep_last, keep_best)
    if budget is not None:
        policy = replace(policy, forgetting_budget=budget)
    views = service.store.checkpoints.list(job_id, PageRequest(page_size=MAX_PAGE_SIZE)).items
    catalog = run.catalog()
    steps = _dispensable(views, catalog, service.store.jobs.branched_at(job_id), policy)
    if dry_run or not (steps or catalog.condemned_steps()):
        sizes = {view.step: view.size_bytes for view in views}
        return Pruned(steps=tuple(steps), freed_bytes=sum(sizes[step] for step in steps))
    with held(service, job_id):
        begun, known = catalog.condemned_steps(), {view.step for view in views}
        for step in begun:
            if step not in known:  # it is written down already
                catalog.bury(step)
        steps = sorted({*steps, *known.intersection(begun)})
        freed = [remove_checkpoint(service, job_id, step, why).freed_bytes for step in steps]
    return Pruned(steps=tuple(steps), freed_bytes=sum(freed))


def _dispensable(
    views: Sequence[CheckpointView], catalog: CheckpointCatalog, branched: Collection[int], policy: RetentionPolicy
) -> list[int]:
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
                ancestor=view.step in branched or bool(catalog.branches(view.step)),
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
    count = len(pruned.steps)
    return f"{count} checkpoint{'' if count == 1 else 's'} deleted, {format_bytes(pruned.freed_bytes)} freed"
