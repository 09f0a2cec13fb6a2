"""Deleting what a run that rests need not keep. What a service keeps of its jobs is in `server/keeping.py`; the rule is the same."""

from __future__ import annotations

from contextlib import nullcontext

from steep.artifacts.abandoned import dispensable, lines_that_go
from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import unshared_bytes
from steep.artifacts.manifest import CheckpointManifest
from steep.artifacts.retention import CheckpointFacts, RetentionPolicy, to_delete
from steep.artifacts.rundir import RunDirectory
from steep.spec.api.checkpoints import Pruned


def prune_run(
    run: RunDirectory, policy: RetentionPolicy | None, *, selected: int | None, dry_run: bool = False
) -> Pruned:
    """Delete the checkpoints of a run that need not be kept, those of lines that were set aside too.

    Kept beside what the policy says: the selected one, pinned ones, the newest whose every byte is right, and those that a branch
    or a line that stays descends from. Where nothing sound is left to go on from, nothing is deleted.

    Args:
        run: whose.
        policy: how many of the newest and of the best are kept; None: all of the run's own line.
        selected: step of the one that was selected, if one was.
        dry_run: only say which would go.

    Raises:
        RunBusy: a process works on the run.
        Fenced: a later attempt works on the run.
    """
    catalog = run.catalog()
    with nullcontext() if dry_run else run.lock():
        # after this the catalog knows of those that are newer than the sound one that they are damaged
        if catalog.newest_valid() is None:
            return Pruned()
        aside = dispensable(run.checkpoints)
        gone = lines_that_go(aside)
        facts = [_facts(catalog, manifest, selected, gone) for manifest in catalog.list()]
        steps = [] if policy is None else to_delete(facts, policy)
        if dry_run:
            freed = sum(unshared_bytes(catalog.path(step)) for step in steps) + sum(
                line.freeable_bytes for line in aside
            )
        else:
            freed = sum(line.delete(catalog.may_write) for line in aside) + sum(map(catalog.delete, steps))
        aside_steps = tuple(sorted(step for line in aside for step in line.steps))
        return Pruned(steps=tuple(steps), aside_steps=aside_steps, freed_bytes=freed)


def _facts(
    catalog: CheckpointCatalog, manifest: CheckpointManifest, selected: int | None, gone: frozenset[str]
) -> CheckpointFacts:
    step, metrics = manifest.step, manifest.metrics
    return CheckpointFacts(
        step=step,
        gain=metrics.get("gain"),
        forgetting=metrics.get("forgetting"),
        pinned=step == selected or catalog.pinned(step),
        ancestor=not gone.issuperset(catalog.branches(step)),
        valid=step not in catalog.damaged,
    )
