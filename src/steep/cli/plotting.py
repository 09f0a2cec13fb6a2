"""Charts of a run as it stands: of its results where it has some, else of what its reports say so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steep.artifacts.rundir import RunDirectory
from steep.cli.tail import Tail
from steep.cli.view import View, mean_bpb
from steep.spec.errors import InvalidInput
from steep.spec.reports import EvaluationReport, StepReport
from steep.spec.results import FROM_SCRATCH, Results, Score
from steep.spec.units import format_tokens


def draw_run(run: RunDirectory, view: View) -> list[Path]:
    """Draw what there is to draw into `RUN/charts`; returns the paths.

    Raises:
        InvalidInput: nothing was measured yet.
    """
    from steep.evaluate.charts import draw

    results = run.results() or interim(run, view)
    paths = [] if results is None else draw(results, run.charts)
    steps = trained(run)
    if len(steps) > 1:
        paths += draw_training(steps, run.charts)
    if not paths:
        raise InvalidInput("nothing was trained yet", where=str(run.path), cure="`steep status` says where it stands.")
    return paths


def trained(run: RunDirectory) -> list[StepReport]:
    """The steps of the run's present line: those that were rolled back or done again count once, as the last time."""
    steps: list[StepReport] = []
    for report in Tail(run.reports_file).read():
        if isinstance(report, StepReport):
            while steps and steps[-1].step >= report.step:
                steps.pop()
            steps.append(report)
    return steps


def interim(run: RunDirectory, view: View) -> Results | None:
    """A table from the reports of a run that has no results yet; nothing is selected."""
    base = view.base
    if base is None:
        return None
    spec = run.spec()
    scores = [_score(view, base, view.evaluations[step]) for step in sorted(view.evaluations)]
    return Results(
        name=spec.name,
        base=spec.base.model or FROM_SCRATCH,
        forgetting_budget=spec.evaluation.forgetting_budget,
        scores=tuple(scores),
    )


def _score(view: View, base: EvaluationReport, evaluation: EvaluationReport) -> Score:
    nan = float("nan")
    before, after = view.domain_bpb(base), view.domain_bpb(evaluation)
    forgetting = view.forgetting(evaluation)
    general = mean_bpb(evaluation.general_bpb)
    return Score(
        kind="checkpoint" if evaluation.step else "base",
        step=evaluation.step,
        tokens_seen=evaluation.tokens_seen,
        domain_bpb=nan if after is None else after,
        general_bpb=nan if general is None else general,
        gain=nan if before is None or after is None else before - after,
        forgetting=nan if forgetting is None else forgetting,
        domain=evaluation.domain_bpb,
        general=evaluation.general_bpb,
    )


def draw_training(steps: Sequence[StepReport], out: Path) -> list[Path]:
    """The loss over tokens, and the learning rate below it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    from steep.evaluate.charts import DOMAIN, DPI, EDGE, INK, MUTED, PAPER, STYLE

    kept = [step for step in steps if not step.skipped]
    tokens = [step.tokens_seen for step in kept]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 5.2), linewidth=1.6, layout="constrained")
        loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        loss.plot(tokens, [step.loss for step in kept], color=DOMAIN, linewidth=0.9, alpha=0.35)
        loss.plot(tokens, _smoothed([step.loss for step in kept]), color=DOMAIN, linewidth=2.2)
        loss.set_ylabel("loss, nats per token")
        loss.set_title(
            f"Training: step {kept[-1].step}, {format_tokens(kept[-1].tokens_seen)} tokens", loc="left", color=INK
        )
        rate.plot(tokens, [step.learning_rate for step in kept], color=MUTED, linewidth=1.8)
        rate.set_ylabel("learning rate")
        rate.set_xlabel("tokens seen")
        rate.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_tokens(value)))
        for axes in (loss, rate):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(True)
        out.mkdir(parents=True, exist_ok=True)
        paths = [out / "training.png", out / "training.svg"]
        figure.savefig(paths[0], dpi=DPI, metadata={"Software": None}, facecolor=PAPER, edgecolor=EDGE)
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None}, facecolor=PAPER, edgecolor=EDGE)
    return paths


def _smoothed(values: Sequence[float], memory: float = 0.9) -> list[float]:
    """An exponential average without the bias of its start."""
    smooth, total, weight = [], 0.0, 0.0
    for value in values:
        total = memory * total + (1 - memory) * value
        weight = memory * weight + (1 - memory)
        smooth.append(total / weight)
    return smooth
