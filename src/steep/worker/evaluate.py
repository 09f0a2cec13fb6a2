"""Stage evaluate: every checkpoint on the same hold-outs as the base, mixes of the best one with the base, and tasks."""

from __future__ import annotations

import math
from typing import Any

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import hash_text
from steep.evaluate.compare import Kind, score_row
from steep.evaluate.mixing import fitting_alpha
from steep.evaluate.taskfiles import fingerprint_tasks
from steep.spec.errors import Stopped
from steep.spec.stages import Stage
from steep.worker.context import Context
from steep.worker.records import Record
from steep.worker.weights import RunModels


def inputs(context: Context) -> dict[str, Any]:
    """The training, the hold-outs, what is to be measured, and the checkpoints that are there."""
    spec = context.spec.evaluation
    return {
        "lineage": context.records.lineage,
        "holdouts": context.holdouts_fingerprint,
        "tasks": tasks_asked(context),
        "interpolate": spec.interpolate,
        "forgetting_budget": spec.forgetting_budget,
        "checkpoints": CheckpointCatalog(context.run.checkpoints).steps(),
    }


def there(context: Context) -> bool:
    """Whether anything beside the base has been measured."""
    return len(context.records.read()) > 1


def work(context: Context) -> dict[str, Any]:
    """Measure what has not been measured yet; an interrupted evaluation goes on."""
    models = RunModels(context)
    _checkpoints(context, models)
    _averages(context, models)
    if context.spec.base.from_scratch is None:
        _interpolations(context, models)
    if context.spec.evaluation.tasks:
        _tasks(context, models)
    return {"measured": len(context.records.read())}


def _checkpoints(context: Context, models: RunModels) -> None:
    known = {record.step for record in context.records.read() if record.kind == "checkpoint"}
    for manifest in CheckpointCatalog(context.run.checkpoints).list():
        if manifest.step not in known:
            _measure(context, models, "checkpoint", manifest.step, manifest.tokens_seen)


def _averages(context: Context, models: RunModels) -> None:
    """The running average of the weights, where the last checkpoint carries one."""
    manifests = CheckpointCatalog(context.run.checkpoints).list()
    if context.recipe.average_steps == 0 or not manifests:
        return
    last = manifests[-1]
    if not any(name.startswith("average-") for name in last.files):
        return  # the one that carries it was deleted
    if any(record.kind == "average" and record.step == last.step for record in context.records.read()):
        return
    _measure(context, models, "average", last.step, last.tokens_seen)


def _interpolations(context: Context, models: RunModels) -> None:
    """Mixes of the base with the checkpoint that gained most: those asked for, and the one that just fits the budget."""
    records = context.records.read()
    there = [r for r in records if r.kind == "checkpoint" and models.available(r.kind, r.step)]
    there = [r for r in there if math.isfinite(r.measured.domain_bpb)]
    known = {(record.step, record.alpha) for record in records if record.kind == "interpolation"}
    for best in sorted(there, key=lambda record: (record.measured.domain_bpb, record.step)):
        wanted = [alpha for alpha in context.spec.evaluation.interpolate if (best.step, alpha) not in known]
        if all(_measure(context, models, "interpolation", best.step, best.tokens_seen, alpha) for alpha in wanted):
            _fitted(context, models, best)
            return  # else it is damaged, and the next best is mixed


def _fitted(context: Context, models: RunModels, best: Record) -> None:
    """One mix more, between those asked for, that forgets what the budget allows and no more; none where none is asked for."""
    base, asked = context.records.base(), context.spec.evaluation.interpolate
    assert base is not None
    if not asked:
        return
    mixed = [r for r in context.records.read() if r.kind == "interpolation" and r.step == best.step]
    wanted = [one for one in mixed if one.alpha in asked]  # and no earlier fit, so that a repeated one is the same
    forgetting = {
        1.0 if record.alpha is None else record.alpha: score_row(
            record.kind, record.measured, base.measured, step=record.step, tokens_seen=record.tokens_seen
        ).forgetting
        for record in [best, *wanted]
    }
    alpha = fitting_alpha(forgetting, context.spec.evaluation.forgetting_budget)
    if alpha is not None and alpha not in {one.alpha for one in mixed}:
        _measure(context, models, "interpolation", best.step, best.tokens_seen, alpha)


def _tasks(context: Context, models: RunModels) -> None:
    from steep.evaluate.tasks import evaluate_tasks

    spec, asked = context.spec.evaluation, tasks_asked(context)
    for record in context.records.read():
        if record.tasks_asked == asked or not models.available(record.kind, record.step):
            continue
        _go_on(context)
        model = models.load_sound(record.kind, record.step, record.alpha)
        if model is None:
            continue
        tasks = evaluate_tasks(model, context.tokenizer, spec.tasks, limit=spec.task_limit)
        measured = record.measured.model_copy(update={"tasks": {**record.measured.tasks, **tasks}})
        context.records.write(
            record.kind,
            measured,
            step=record.step,
            tokens_seen=record.tokens_seen,
            alpha=record.alpha,
            tasks_asked=asked,
        )


def tasks_asked(context: Context) -> str:
    """Fingerprint of the job's tasks: their names or files, and how many examples; another one runs them again."""
    spec = context.spec.evaluation
    return hash_text(fingerprint_tasks(spec.tasks), str(spec.task_limit)) if spec.tasks else ""


def _measure(
    context: Context, models: RunModels, kind: Kind, step: int, tokens_seen: int, alpha: float | None = None
) -> bool:
    """Score a model on the hold-outs and record it; whether that could be done, as its checkpoint may be damaged."""
    _go_on(context)
    model = models.load_sound(kind, step, alpha)
    if model is None:
        return False
    measured = context.measure(model, Stage.EVALUATE)
    context.records.write(kind, measured, step=step, tokens_seen=tokens_seen, alpha=alpha)
    return True


def _go_on(context: Context) -> None:
    if reason := context.should_stop():
        raise Stopped(f"stopped while evaluating: {reason}", cure="Run the same command to go on.")
