"""The checkpoints of a job in the service's catalog, as `steep checkpoints` shows and handles them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from steep.cli.tables import moment, print_table
from steep.spec.api.checkpoints import CheckpointView, Pruned
from steep.spec.units import format_bytes, format_tokens

if TYPE_CHECKING:
    from steep.client.client import Client
    from steep.spec.results import Results


@contextmanager
def open_job_shelf(job: str) -> Iterator[JobShelf]:
    """The checkpoints of the job with this id."""
    from steep.cli.service.connect import connected

    with connected() as client:
        yield JobShelf(client, job)


class JobShelf:
    """The checkpoints of a job. Satisfies `cli/shelf.Shelf`."""

    def __init__(self, client: Client, job: str) -> None:
        self._client = client
        self._job = job

    def print_all(self, *, json: bool) -> None:
        """See `Shelf`."""
        from steep.cli.output import print_json

        views = list(self._client.checkpoints.list(self._job))
        if json:
            print_json([view.model_dump(mode="json") for view in views])
            return
        headers = ("checkpoint", "tokens", "saved", "size", "gain", "forgetting", "state", "")
        right = ("tokens", "size", "gain", "forgetting")
        print_table(headers, map(_row, views), empty="There are no checkpoints yet.", right=right)
        outcome = self._client.jobs.get(self._job).view.outcome
        if outcome.selected:  # it may be a mix, which is no row
            forgotten = "" if outcome.forgetting is None else f", forgetting {_signed(outcome.forgetting)}"
            print(f"\nSelected: {outcome.selected}, gain {_signed(outcome.gain)}{forgotten}.")

    def print_one(self, step: int, *, json: bool) -> None:
        """See `Shelf`."""
        from steep.cli.output import print_json

        view = self._client.checkpoints.get(self._job, step)
        files = list(self._client.checkpoints.files(self._job, step)) if view.state != "deleted" else []
        if json:
            print_json(view.model_dump(mode="json") | {"files": [file.model_dump(mode="json") for file in files]})
            return
        print(f"step {step} of {self._job}: {view.state}")
        for label, text in _facts(view).items():
            print(f"  {label:<13} {text}")
        for name, metrics in view.scores.items():
            print(f"  {name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in metrics.items()))
        for file in files:
            print(f"  {file.path:<28} {format_bytes(file.size_bytes):>9}  blake3 {(file.blake3 or '-')[:16]}")

    def verify(self, step: int | None) -> dict[int, str | None]:
        """See `Shelf`."""
        there = [view.step for view in self._client.checkpoints.list(self._job) if view.state != "deleted"]
        found = (self._client.checkpoints.verify(self._job, one) for one in (there if step is None else [step]))
        return {view.step: None if view.state == "valid" else view.state for view in found}

    def pin(self, step: int) -> None:
        """See `Shelf`."""
        self._client.checkpoints.pin(self._job, step)

    def unpin(self, step: int) -> None:
        """See `Shelf`."""
        self._client.checkpoints.unpin(self._job, step)

    def delete(self, steps: Sequence[int]) -> dict[int, int]:
        """See `Shelf`. Pinned ones come first: the service refuses them, and then none is gone."""
        views = [self._client.checkpoints.get(self._job, step) for step in dict.fromkeys(steps)]
        views.sort(key=lambda view: not view.pinned)
        return {view.step: self._client.checkpoints.delete(self._job, view.step).freed_bytes for view in views}

    def prune(self, *, keep_last: int, keep_best: int, only_set_aside: bool, dry_run: bool) -> Pruned:
        """See `Shelf`."""
        return self._client.checkpoints.prune(
            self._job, keep_last=keep_last, keep_best=keep_best, only_set_aside=only_set_aside, dry_run=dry_run
        )

    def results(self) -> Results | None:
        """See `Shelf`."""
        return self._client.jobs.results(self._job)


def _row(view: CheckpointView) -> list[str]:
    return [
        f"step {view.step}",
        format_tokens(view.tokens_seen),
        moment(view.created_at),
        format_bytes(view.size_bytes),
        _signed(view.gain),
        _signed(view.forgetting),
        view.state,
        ", ".join(word for word in ("selected", "pinned", "uploaded") if getattr(view, word)),
    ]


def _facts(view: CheckpointView) -> dict[str, str]:
    facts = {
        "saved": f"{moment(view.created_at)} by attempt {view.attempt or '-'}",
        "verified": moment(view.verified_at),
        "tokens seen": f"{view.tokens_seen:,}",
        "size": format_bytes(view.size_bytes),
        "parent": view.parent or "-",
        "gain": _signed(view.gain),
        "forgetting": _signed(view.forgetting),
        "kept": ", ".join(word for word in ("selected", "pinned", "uploaded") if getattr(view, word)),
    }
    return {label: text for label, text in facts.items() if text not in ("", "-")}


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
