"""The guard against forgetting at work: it is asked after each evaluation, and what it decides is recorded, then done.

Whenever the process is killed, the next one finds either no record of a rollback, and decides the same from the same
measurements, or the record, and completes what it says.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, assert_never

from steep.artifacts.guard import GuardRecord, GuardRollback
from steep.artifacts.lineage import Lineage, go_back
from steep.artifacts.manifest import CheckpointManifest
from steep.evaluate.compare import score_row
from steep.planning.guard import (
    MAX_ROLLBACKS,
    Rollback,
    Scored,
    Stop,
    Terms,
    Verdict,
    Warn,
    decide,
    guarded,
    replay_tokens,
    terms_after,
    why,
)
from steep.spec.errors import DamagedArtifact, StoppedByGuard
from steep.spec.reports import NoticeReport
from steep.spec.stages import Stage
from steep.worker.branching import cursor_after
from steep.worker.context import Context
from steep.worker.fingerprints import data_order, planned_training, spec_fingerprint
from steep.worker.replay import SelfSampler, self_tokens_for

if TYPE_CHECKING:
    from steep.corpus.order import DataOrder

CURE = (
    "Give more replay or a lower rate, with which training begins anew; or a larger evaluation.forgetting_budget or "
    "`on_forgetting: warn`, with which the same command goes on from here."
)


class Guard:
    """Watches the training of one run.

    Args:
        context: of the run.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def settle(self) -> None:
        """Complete a rollback that was recorded and not done, and forget what was recorded under another spec."""
        context = self._context
        if not context.guard.rollbacks:
            GuardRecord().write(context.run.path)
            for sampled in context.self_directory.glob(
                "train-*"
            ):  # for a rollback that did not come, or of another spec
                shutil.rmtree(sampled)
            return
        last = context.guard.rollbacks[-1]
        left = (last.spec_fingerprint, last.order_fingerprint)
        ours = [one for one in context.run.catalog().list() if (one.spec_fingerprint, one.order_fingerprint) == left]
        if any(one.step > last.to_step for one in ours):
            self._apply(last)

    def halts(self, step: int) -> bool:
        """Asked after the evaluation of a step: whether training ends there. A warning is said at once."""
        verdict = self._verdict(step)
        if isinstance(verdict, Warn):
            again = f"; it was rolled back {MAX_ROLLBACKS} times already" if self._rolled_back_to else ""
            self._say("guard_warned", f"{why(verdict.evidence, self._budget)}{again}; training goes on", step)
        return isinstance(verdict, Stop | Rollback)

    def acts(self, step: int) -> bool:
        """Whether there is something to be done before training goes on from a step."""
        return isinstance(self._verdict(step), Stop | Rollback)

    def act(self, step: int) -> None:
        """Stop or roll back, as is to be done at a step whose checkpoint is committed.

        Raises:
            StoppedByGuard: `on_forgetting` says to stop.
            Stopped: asked to stop while more replay was sampled; the same command goes on.
        """
        verdict = self._sound(step)
        match verdict:
            case Stop():
                told = f"stopped at step {step}: {why(verdict.evidence, self._budget)}"
                self._say("guard_stopped", told, step)
                raise StoppedByGuard(told, where="evaluation.on_forgetting", cure=CURE)
            case Rollback():
                rollback = self._plan(verdict, step)
                self._record(rollback)
                self._apply(rollback)
            case Warn() | None:
                return
            case _:
                assert_never(verdict)

    def adopts(self, manifest: CheckpointManifest) -> bool:
        """Whether a checkpoint was made before a rollback and is still part of the run's line."""
        made = (manifest.spec_fingerprint, manifest.order_fingerprint, manifest.step)
        return self._context.guard.made_before(*made)

    def cursor_after(self, manifest: CheckpointManifest) -> int:
        """Where the text goes on after a checkpoint: the corpus where it was, though another share of sequences comes of it."""
        for number, rollback in enumerate(self._context.guard.rollbacks):
            if rollback.order_fingerprint == manifest.order_fingerprint and self.adopts(manifest):
                return _moved(manifest.cursor, self._order(number), self._order(None), list(self._context.corpus.train))
        return cursor_after(self._context, manifest)

    # ---- deciding

    @property
    def _budget(self) -> float:
        return self._context.spec.evaluation.forgetting_budget

    @property
    def _rolled_back_to(self) -> list[int]:
        return [one.to_step for one in self._context.guard.rollbacks]

    def _verdict(self, step: int, damaged: frozenset[int] = frozenset()) -> Verdict | None:
        context = self._context
        if context.spec.base.from_scratch is not None:
            return None  # which knew nothing
        recipe, origin = context.planned, Lineage.read(context.run).origin
        terms = Terms(
            on_forgetting=context.spec.evaluation.on_forgetting,
            budget=self._budget,
            warmup_steps=recipe.warmup_steps,
            total_steps=recipe.total_steps,
            first_step=0 if origin is None else origin.step,
        )
        kept = set(context.run.catalog().steps()) - damaged
        return decide(self._history(step), terms, rolled_back_to=self._rolled_back_to, kept=kept)

    def _sound(self, step: int) -> Verdict | None:
        """The verdict, with a rollback only to a checkpoint whose every byte is right."""
        damaged: frozenset[int] = frozenset()
        while isinstance(verdict := self._verdict(step, damaged), Rollback) and verdict.to_step > 0:
            try:
                self._context.run.catalog().verify(verdict.to_step)
                break
            except DamagedArtifact as error:
                if verdict.to_step in damaged:
                    raise
                damaged |= {verdict.to_step}
                told = f"checkpoint {verdict.to_step} is damaged and is passed over: {error}"
                self._context.notice("damaged_checkpoint", told, warning=True)
        return verdict

    def _history(self, step: int) -> list[Scored]:
        """The evaluations of the run's line until a step."""
        records = self._context.records.read()
        base = next((one for one in records if one.kind == "base"), None)
        if base is None or not base.measured.general:
            return []
        rows = [
            score_row(one.kind, one.measured, base.measured, step=one.step, tokens_seen=one.tokens_seen)
            for one in records
            if one.kind == "checkpoint" and one.step <= step
        ]
        return [Scored(row.step, row.gain, row.forgetting, row.worst_general) for row in rows]

    # ---- going back

    def _plan(self, verdict: Rollback, step: int) -> GuardRollback:
        """All that a rollback changes, with the replay that it needs at hand."""
        context = self._context
        to_steps = [*self._rolled_back_to, verdict.to_step]
        after = guarded(context.planned, to_steps)
        replay, tokens = self._more_replay(to_steps)
        goes_on = "the base" if verdict.to_step == 0 else f"step {verdict.to_step}"
        return GuardRollback(
            at_step=step,
            to_step=verdict.to_step,
            spec_fingerprint=spec_fingerprint(context, context.recipe),
            order_fingerprint=data_order(context, context.recipe).fingerprint,
            replay=replay,
            replay_tokens=tokens,
            message=f"{why(verdict.evidence, self._budget)}; training goes on from {goes_on} with {terms_after(after)}",
        )

    def _more_replay(self, to_steps: list[int]) -> tuple[str | None, int]:
        """Sample more replay from the base where too little was sampled for a larger share; its name and tokens."""
        context = self._context
        there = sum(len(dataset) for dataset in context.replay.values())
        wanted = self_tokens_for(replay_tokens(context.planned, to_steps))
        if context.spec.replay.source != "self" or not there or wanted <= there:
            return None, 0
        name = f"train-{len(to_steps)}"
        sampler = SelfSampler.of(context, context.load_base(), Stage.TRAIN)
        sampler.sample_replay(context.self_directory / name, wanted)
        return name, wanted

    def _record(self, rollback: GuardRollback) -> None:
        context = self._context
        context.run.fence.check()
        rollbacks = (*context.guard.rollbacks, rollback)
        GuardRecord(training=planned_training(context), rollbacks=rollbacks).write(context.run.path)

    def _apply(self, rollback: GuardRollback) -> None:
        self._say("guard_rolled_back", rollback.message, rollback.at_step)
        go_back(self._context.run, rollback.to_step)

    def _order(self, rollbacks: int | None) -> DataOrder:
        """The data order after so many of the recorded rollbacks; None: after all."""
        context = self._context
        record = context.guard
        done = record.model_copy(update={"rollbacks": record.rollbacks[:rollbacks]})
        recipe = guarded(context.planned, [one.to_step for one in done.rollbacks])
        return data_order(context, recipe, context.replay_of(done))

    def _say(self, code: str, message: str, step: int) -> None:
        self._context.observer.notice(NoticeReport(level="warning", code=code, message=message, step=step))


def _moved(cursor: int, old: DataOrder, new: DataOrder, corpus: list[str]) -> int:
    """The index in a new order at which the corpus is where it was at `cursor` in an old one."""
    drawn = old.counts(cursor)
    return new.reached(corpus, sum(drawn[name] for name in corpus))
