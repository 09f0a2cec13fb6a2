"""Stage train: the recipe carried out on the prepared text, from wherever an earlier attempt stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from steep.artifacts.lineage import Lineage, set_aside
from steep.artifacts.manifest import Parent
from steep.artifacts.retention import RetentionPolicy
from steep.planning.recipe import Recipe
from steep.spec.stages import Stage
from steep.worker.context import Context
from steep.worker.fingerprints import data_order, planned_lineage, spec_fingerprint
from steep.worker.guard import Guard
from steep.worker.mirroring import mirrored
from steep.worker.neighbours import ProcessorTimes, crowded
from steep.worker.records import RecordsEvaluations
from steep.worker.untold import tell_untold

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from steep.evaluate.compare import Measurement
    from steep.train.setup import Scores, TrainingOutcome, TrainingSetup


def inputs(context: Context) -> dict[str, Any]:
    """The training itself, and where its checkpoints are copied to. What the guard did is no input but part of the work."""
    return {"lineage": planned_lineage(context), "store": context.spec.checkpoints.store}


def there(context: Context) -> bool:
    """Whether a checkpoint is."""
    return bool(context.run.catalog().steps())


def work(context: Context) -> dict[str, Any]:
    """Train to the end of the schedule, from another checkpoint wherever the guard went back; returns how it went."""
    guard = Guard(context)
    guard.settle()
    _tell_of_neighbours(context)
    while True:
        setup = training_setup(context, context.recipe)
        _set_foreign_aside(context, setup)
        tell_untold(context.run, context.observer)
        step = max(setup.checkpoints.steps(), default=0)
        if not guard.acts(step):
            outcome = _train(context, setup)
            if not outcome.halted:
                return asdict(outcome)
            step = outcome.step
        guard.act(step)


def _tell_of_neighbours(context: Context) -> None:
    """Say so where training is about to share its cores with others."""
    import psutil
    import torch

    if context.device.type == "cpu":
        cores = psutil.cpu_count() or 1
        told = crowded(context.began, ProcessorTimes.now(), num_cores=cores, num_threads=torch.get_num_threads())
        if told is not None:
            context.notice("crowded", told, warning=True)


def _train(context: Context, setup: TrainingSetup) -> TrainingOutcome:
    from steep.train.observer import Several
    from steep.train.trainer import train

    base = context.records.base()
    recorder = [] if base is None else [RecordsEvaluations(context.records, base.measured)]
    observer = Several((context.observer, *recorder))
    with mirrored(context, setup, observer) as listening:
        return train(setup, listening, context.should_stop)


def training_setup(context: Context, recipe: Recipe) -> TrainingSetup:
    """Everything that the trainer is told, from the recipe and what earlier stages made."""
    from steep.train.schedule import Schedule
    from steep.train.setup import TrainingSetup

    spec = context.spec
    ancestry, guard = Lineage.read(context.run), Guard(context)
    origin = ancestry.origin

    return TrainingSetup(
        load_model=context.load_base,
        device=context.device,
        datasets={**context.corpus.train, **context.replay},
        order=data_order(context, recipe),
        sequences_per_step=recipe.sequences_per_step,
        microbatch_sequences=recipe.microbatch_sequences,
        schedule=Schedule(
            recipe.peak_rate,
            recipe.total_steps,
            warmup_steps=recipe.warmup_steps,
            decay_steps=recipe.decay_steps,
            kind=recipe.schedule,
            final_share=recipe.final_rate,
        ),
        checkpoints=context.run.catalog(),
        spec_fingerprint=spec_fingerprint(context, recipe),
        seed=spec.seed,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        average_steps=recipe.average_steps,
        lora=recipe.lora,
        replay=frozenset(context.replay),
        distill=recipe.replay_distill,
        precision=recipe.precision,
        compile=recipe.compile,
        activation_checkpointing=recipe.activation_checkpointing,
        checkpoint_every_steps=recipe.checkpoint_every_steps,
        checkpoint_every_seconds=recipe.checkpoint_every_seconds,
        evaluate_every_steps=recipe.evaluate_every_steps,
        evaluate_every_seconds=recipe.evaluate_every_seconds,
        retention=RetentionPolicy(
            keep_last=spec.checkpoints.keep_last,
            keep_best=spec.checkpoints.keep_best,
            forgetting_budget=spec.evaluation.forgetting_budget,
        ),
        measure=_measuring(context),
        adopts=lambda manifest: ancestry.adopts(manifest) or guard.adopts(manifest),
        cursor_after=guard.cursor_after,
        halts=guard.halts,
        parent=None if origin is None else Parent(step=origin.step, identity=origin.identity, run=origin.run),
    )


def _measuring(context: Context) -> Callable[[PreTrainedModel], Scores]:
    """Scores a model in training on the hold-outs, beside the base."""
    from steep.evaluate.compare import score_row
    from steep.train.setup import Scores

    base = context.records.base()

    def measure(model: PreTrainedModel) -> Scores:
        measured: Measurement = context.measure(model, Stage.TRAIN)
        if base is None:
            return Scores(measured.domain, measured.general)
        row = score_row("checkpoint", measured, base.measured, step=0, tokens_seen=0)
        return Scores(measured.domain, measured.general, gain=row.gain, forgetting=row.forgetting)

    return measure


def _set_foreign_aside(context: Context, setup: TrainingSetup) -> None:
    """Checkpoints of another spec or other text must be neither resumed nor counted; they are kept, out of the way."""
    from steep.train.resume import why_foreign

    setup.checkpoints.clean()
    reasons = {one.step: why for one in setup.checkpoints.list() if (why := why_foreign(one, setup))}
    if reasons:
        line = set_aside(context.run, sorted(reasons))
        why = " and ".join(sorted(set(reasons.values())))
        context.notice(
            "set_aside",
            f"{len(reasons)} checkpoint{'s' if len(reasons) > 1 else ''} of an earlier training ({why}) set aside in "
            f"checkpoints/{line.name}; `steep checkpoints prune RUN --only-set-aside` frees its space",
            warning=True,
        )
