"""The checkpoints of a run directory, or of a job of the service: what `steep checkpoints` can do with either."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from steep.artifacts.rundir import RunDirectory
    from steep.spec.api.checkpoints import Pruned
    from steep.spec.results import Results


class Shelf(Protocol):
    """Checkpoints, each by its step. Every method raises the error of the tree that fits, see `spec/errors.py`."""

    def print_all(self, *, json: bool) -> None:
        """All of them, for people or for programs."""

    def print_one(self, step: int, *, json: bool) -> None:
        """Everything that is known of one."""

    def verify(self, step: int | None) -> dict[int, str | None]:
        """Read every byte of one, or of all: by step, what is wrong, or None where nothing is."""

    def pin(self, step: int) -> None:
        """Protect one."""

    def unpin(self, step: int) -> None:
        """Take the protection away."""

    def delete(self, steps: Sequence[int]) -> dict[int, int]:
        """Delete these, all or none: by step, the bytes that it freed."""

    def prune(self, *, keep_last: int, keep_best: int, only_set_aside: bool, dry_run: bool) -> Pruned:
        """Delete those that need not be kept, and those of lines that were set aside, or these alone; or say which they are."""

    def results(self) -> Results | None:
        """What was measured on them, as far as it was."""


def open_shelf(where: str) -> AbstractContextManager[Shelf]:
    """The checkpoints of a run directory, or of the job with this id or name.

    Raises:
        InvalidInput: it is neither, or no server is known.
    """
    from steep.cli.service.connect import job_meant

    if (job := job_meant(where)) is not None:
        from steep.cli.service.shelf import open_job_shelf

        return open_job_shelf(job)
    return nullcontext(RunShelf(existing_run(where)))


def existing_run(where: str, what: str | None = None) -> RunDirectory:
    """The run directory at a path.

    Args:
        where: the path.
        what: what is asked for, when that can be had of run directories alone.

    Raises:
        InvalidInput: it is none, or is the id of a job.
    """
    from steep.artifacts.rundir import RunDirectory
    from steep.cli.service.connect import is_job
    from steep.spec.errors import InvalidInput

    if is_job(where):
        raise InvalidInput(
            f"a job of the service cannot be {what or 'used here'}",
            where=where,
            cure=f"Bring what it made here (`steep jobs download {where}`), or give a run directory.",
        )
    return RunDirectory.existing(Path(where))


class RunShelf:
    """The checkpoints of a run directory. Satisfies `Shelf`."""

    def __init__(self, run: RunDirectory) -> None:
        from steep.artifacts.checkpoints import CheckpointCatalog

        self._run = run
        self._catalog = CheckpointCatalog(run.checkpoints)

    def print_all(self, *, json: bool) -> None:
        """See `Shelf`. Lines that were rolled back and branches stand below where they left."""
        from steep.artifacts.lineage import tree
        from steep.cli.catalog import print_selected, print_tree, row_facts, scores_by_step
        from steep.cli.output import print_json
        from steep.spec.stages import Stage

        rows = tree(self._run)
        scores = scores_by_step(self._run)
        branches = {row.manifest.step: self._catalog.branches(row.manifest.step) for row in rows if row.depth == 0}
        if json:
            print_json([row_facts(row, *((scores, branches) if row.depth == 0 else ({}, {}))) for row in rows])
        else:
            print_tree(rows, scores, branches)
            if self._run.completion(Stage.SELECT) is not None:  # after a rollback it is to be selected anew
                print_selected(self._run.results())

    def print_one(self, step: int, *, json: bool) -> None:
        """See `Shelf`."""
        from steep.cli.catalog import print_manifest, scores_by_step
        from steep.cli.output import print_json

        manifest = self._catalog.get(step)
        score = scores_by_step(self._run).get(step)
        if json:
            facts = manifest.model_dump(mode="json") | {
                "identity": manifest.identity,
                "pinned": self._catalog.pinned(step),
                "branches": list(self._catalog.branches(step)),
                "score": None if score is None else score.model_dump(mode="json"),
            }
            print_json(facts)
        else:
            print_manifest(manifest, self._catalog, score)

    def verify(self, step: int | None) -> dict[int, str | None]:
        """See `Shelf`."""
        from steep.spec.errors import DamagedArtifact

        found: dict[int, str | None] = {}
        for one in self._catalog.steps() if step is None else [step]:
            try:
                self._catalog.verify(one)
                found[one] = None
            except DamagedArtifact as error:
                found[one] = str(error)
        return found

    def pin(self, step: int) -> None:
        """See `Shelf`."""
        self._catalog.pin(step)

    def unpin(self, step: int) -> None:
        """See `Shelf`. One in a line that was set aside too."""
        from steep.artifacts.abandoned import unpin_set_aside

        if not unpin_set_aside(self._run.checkpoints, step) or step in self._catalog.steps():
            self._catalog.unpin(step)

    def delete(self, steps: Sequence[int]) -> dict[int, int]:
        """See `Shelf`. Refused while a worker is at it."""
        with self._run.lock():
            for step in steps:  # all or none: what cannot be deleted is refused before the first is gone
                self._catalog.get(step)
            guarded = [step for step in steps if self._catalog.pinned(step) or self._catalog.branches(step)]
            return {step: self._catalog.delete(step) for step in dict.fromkeys([*guarded, *steps])}

    def prune(self, *, keep_last: int, keep_best: int, only_set_aside: bool, dry_run: bool) -> Pruned:
        """See `Shelf`. Refused while a worker is at it."""
        from steep.artifacts.pruning import prune_run
        from steep.artifacts.retention import RetentionPolicy

        results = self._run.results()
        selected = None if results is None or results.selected is None else results.selected.step
        policy = RetentionPolicy(keep_last, keep_best, self._run.spec().evaluation.forgetting_budget)
        return prune_run(self._run, None if only_set_aside else policy, selected=selected, dry_run=dry_run)

    def results(self) -> Results | None:
        """See `Shelf`."""
        return self._run.results()
