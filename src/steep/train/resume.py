"""What a training goes on from: the newest valid checkpoint that belongs to it, or the base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steep.artifacts.manifest import CheckpointManifest, Parent
from steep.spec.reports import CheckpointReport, NoticeReport
from steep.train.observer import Observer
from steep.train.precision import Precision, choose_precision, use_quick_fp32_products
from steep.train.setup import TrainingSetup


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where training begins.

    Args:
        step: of the checkpoint to load, whose bytes have been checked; None begins with the base.
        parent: the checkpoint that the next one descends from.
        precision: of the computation; that of the checkpoint, so that chance cannot change it in the middle of a run.
        cursor: global index of the first sequence.
    """

    step: int | None
    parent: Parent | None
    precision: Precision
    cursor: int = 0


def find_resumption(setup: TrainingSetup, observer: Observer) -> Resumption:
    """Find the newest valid checkpoint of this setup, and decide what it does not say."""
    setup.checkpoints.clean()
    use_quick_fp32_products(setup.device)
    found = newest_own(setup, observer)
    wanted = setup.precision
    if found is None:
        precision = choose_precision(setup.device, wanted)
        observer.notice(
            NoticeReport(code="precision", message=f"computing in {precision.name}: {precision.reason}", step=0)
        )
        return Resumption(None, setup.parent, precision)
    earlier: Literal["auto", "bf16", "fp32"] = found.facts.get("precision", "auto")
    precision = choose_precision(setup.device, earlier if wanted == "auto" else wanted)
    observer.notice(
        NoticeReport(
            code="resumed",
            message=f"going on from step {found.step} at {found.tokens_seen:,} tokens, in {precision.name}",
            step=found.step,
        )
    )
    parent = Parent(step=found.step, identity=found.identity)
    return Resumption(found.step, parent, precision, setup.cursor_after(found))


def newest_own(setup: TrainingSetup, observer: Observer) -> CheckpointManifest | None:
    """The newest valid checkpoint of this setup; says which newer ones were passed over and why."""
    return setup.checkpoints.newest_valid(
        on_rejected=lambda step, why: observer.checkpoint(CheckpointReport(step=step, event="rejected", detail=why)),
        accept=lambda manifest: why_foreign(manifest, setup),
    )


def why_foreign(manifest: CheckpointManifest, setup: TrainingSetup) -> str | None:
    """Why a checkpoint does not belong to this setup, or None when it does. Its weights are compared when it is loaded."""
    if setup.adopts(manifest):
        return None
    if manifest.spec_fingerprint != setup.spec_fingerprint:
        return "it was trained by another spec"
    if manifest.order_fingerprint != setup.order.fingerprint:
        return "it was trained on other text, or in another order"
    return None
