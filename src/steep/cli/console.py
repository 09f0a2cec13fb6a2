"""Draw a run while it goes on: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from steep.cli.lines import describe
from steep.cli.view import View, mean_bpb, sparkline
from steep.spec.reports import NoticeReport, ProgressReport, Report, StepReport
from steep.spec.stages import ORDER
from steep.spec.units import format_bytes, format_seconds, format_tokens

PLAIN_INTERVAL_SECONDS = 5.0
NOTICES_SHOWN = 4
EVALUATIONS_SHOWN = 5
MARKS = {
    "started": ("●", "cyan"), "completed": ("✓", "green"), "skipped": ("✓", "dim"), "stopped": ("‖", "yellow"),
    "failed": ("✗", "red"),
}  # fmt: skip
ASCII_MARKS = {"started": "*", "completed": "+", "skipped": "+", "stopped": "=", "failed": "x"}
NOTICE_STYLES = {"info": "dim", "warning": "yellow", "error": "red"}


class Screen(Protocol):
    """Shows reports as they come."""

    def show(self, report: Report) -> None:
        """Take in one report; what is drawn follows."""

    def recall(self, report: Report) -> None:
        """Take in a report of an earlier go, which is not news."""

    def say(self, text: str) -> None:
        """A sentence of the command's own."""

    def close(self) -> None:
        """Leave the screen as it should stay."""


class PlainScreen:
    """One line for each thing worth a line; steps and progress every few seconds only."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view = View()
        self._last_seconds = float("-inf")

    def show(self, report: Report) -> None:
        """See `Screen`."""
        self._view.add(report)
        if isinstance(report, ProgressReport | StepReport):
            final = isinstance(report, StepReport) and report.step == report.total_steps
            if not final and time.monotonic() - self._last_seconds < PLAIN_INTERVAL_SECONDS:
                return
            self._last_seconds = time.monotonic()
        line = describe(report, self._view)
        if line:
            self.say(line)

    def recall(self, report: Report) -> None:
        """See `Screen`."""
        if not isinstance(report, NoticeReport):
            self._view.add(report)

    def say(self, text: str) -> None:
        """See `Screen`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is left open."""


class LiveScreen:
    """A view that is redrawn in place a few times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view = View()
        self._unicode = (console.encoding or "").lower().startswith("utf")
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=4, transient=False)
        self._live.start()

    def show(self, report: Report) -> None:
        """See `Screen`."""
        self._view.add(report)

    def recall(self, report: Report) -> None:
        """See `Screen`."""
        if not isinstance(report, NoticeReport):
            self._view.add(report)

    def say(self, text: str) -> None:
        """See `Screen`."""
        self._live.console.print(Text(text))

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self._live.stop()

    def _draw(self) -> RenderableType:
        view = self._view
        parts: list[RenderableType] = [self._stage_line()]
        if view.progress is not None:
            parts.append(self._progress(view.progress))
        if view.step is not None:
            parts.extend(self._training(view.step))
        if view.evaluations:
            parts.append(self._holdouts())
        parts.extend(_notice(notice) for notice in view.notices[-NOTICES_SHOWN:])
        return Group(*parts)

    def _stage_line(self) -> Text:
        line = Text()
        for stage in ORDER:
            report = self._view.stages.get(stage)
            event = report.event if report else ""
            mark, style = MARKS.get(event, ("·", "dim"))
            line.append(f"{mark if self._unicode else ASCII_MARKS.get(event, '.')} {stage}", style)
            if report is not None and report.event == "completed":
                line.append(f" {format_seconds(report.seconds)}", "dim")
            line.append("   ")
        return line

    def _progress(self, progress: ProgressReport) -> RenderableType:
        if not progress.total:
            return Text(f"  {progress.what}: {format_tokens(progress.done)}")
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=progress.total, completed=min(progress.done, progress.total), width=30)
        grid.add_row(Text(f"  {progress.what}"), bar, Text(f"{progress.done / progress.total:.0%}"))
        return grid

    def _training(self, step: StepReport) -> list[RenderableType]:
        total = step.total_steps
        grid = Table.grid(padding=(0, 1))
        remaining = self._view.remaining_seconds
        left = "" if remaining is None or step.step == total else f"{format_seconds(remaining)} left"
        bar = ProgressBar(total=total or 1, completed=step.step if total else 0, width=30)
        grid.add_row(Text(f"  step {step.step}" + (f" of {total}" if total else "")), bar, Text(left, "dim"))
        blocks = "▁▂▃▄▅▆▇█" if self._unicode else "_.-=^"
        curve = sparkline(list(self._view.losses), 40, blocks)
        loss = Text.assemble(f"  loss {step.loss:.3f}  ", (curve, "cyan"), f"  rate {step.learning_rate:.2e}")
        speed = [f"{format_tokens(step.tokens_per_second)} tokens/s", f"{format_tokens(step.tokens_seen)} tokens seen"]
        if step.mfu is not None:
            speed.append(f"MFU {step.mfu:.0%}")
        if step.peak_memory_bytes:
            speed.append(f"memory {format_bytes(step.peak_memory_bytes)}")
        if self._view.checkpoints:
            speed.append(f"checkpoint at step {max(self._view.checkpoints)}")
        return [grid, loss, Text("  " + "  ".join(speed), "dim")]

    def _holdouts(self) -> Table:
        table = Table(box=None, pad_edge=True, padding=(0, 2), header_style="dim")
        for name in ("hold-outs, bits per byte", "domain", "gain", "general", "forgetting"):
            table.add_column(name, justify="left" if name.startswith("hold") else "right")
        steps = sorted(self._view.evaluations)
        shown = steps if len(steps) <= EVALUATIONS_SHOWN else [steps[0], *steps[-EVALUATIONS_SHOWN + 1 :]]
        for step in shown:
            table.add_row(*evaluation_cells(self._view, step))
        return table


def evaluation_cells(view: View, step: int) -> tuple[str, ...]:
    """One row of the table of hold-outs: name, domain, gain, general, forgetting."""
    evaluation = view.evaluations[step]
    domain, general = view.domain_bpb(evaluation), mean_bpb(evaluation.general_bpb)
    base = view.base
    gain = view.domain_bpb(base) if base is not None and step else None
    forgetting = view.forgetting(evaluation) if step else None
    return (
        f"step {step}" if step else "base",
        "-" if domain is None else f"{domain:.3f}",
        "-" if gain is None or domain is None else f"{gain - domain:+.3f}",
        "-" if general is None else f"{general:.3f}",
        "-" if forgetting is None else f"{forgetting:+.3f}",
    )


def _notice(notice: NoticeReport) -> Text:
    at = "" if notice.step is None else f" (step {notice.step})"
    prefix = "" if notice.level == "info" else f"{notice.level}: "
    return Text(f"  {prefix}{notice.message}{at}", NOTICE_STYLES[notice.level])


def make_screen(console: Console) -> Screen:
    """The screen that fits where the output goes."""
    return LiveScreen(console) if console.is_terminal and not console.is_dumb_terminal else PlainScreen(console)
