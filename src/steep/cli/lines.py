"""One report in one plain line, for logs and pipes."""

from __future__ import annotations

from steep.cli.view import View, mean_bpb
from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    Report,
    StageReport,
    StepReport,
)
from steep.spec.units import format_bytes, format_seconds, format_tokens


def describe(report: Report, view: View) -> str:
    """The line; empty for reports that need none."""
    match report:
        case StageReport():
            return _stage(report)
        case ProgressReport():
            of = f" of {format_tokens(report.total)} ({report.done / report.total:.0%})" if report.total else ""
            return f"{report.stage}: {report.what} {format_tokens(report.done)}{of}"
        case StepReport():
            return _step(report, view)
        case EvaluationReport():
            return _evaluation(report, view)
        case CheckpointReport():
            return _checkpoint(report)
        case NoticeReport():
            return report.message if report.level == "info" else f"{report.level}: {report.message}"
    return ""


def _stage(report: StageReport) -> str:
    if report.event == "completed":
        return f"{report.stage}: completed in {format_seconds(report.seconds)}"
    return f"{report.stage}: {report.event}" + (f" ({report.detail})" if report.detail else "")


def _step(report: StepReport, view: View) -> str:
    parts = [
        f"step {report.step}" + (f"/{report.total_steps}" if report.total_steps else ""),
        f"loss {report.loss:.4f}",
        f"rate {report.learning_rate:.2e}",
        f"{format_tokens(report.tokens_per_second)} tokens/s",
    ]
    if report.mfu is not None:
        parts.append(f"MFU {report.mfu:.0%}")
    remaining = view.remaining_seconds
    if remaining is not None and report.step != report.total_steps:
        parts.append(f"{format_seconds(remaining)} left")
    if report.skipped:
        parts.append("SKIPPED")
    return "train: " + "  ".join(parts)


def _evaluation(report: EvaluationReport, view: View) -> str:
    name = "base" if report.step == 0 else f"step {report.step}"
    domain, general = view.domain_bpb(report), mean_bpb(report.general_bpb)
    parts = [
        f"domain {domain:.4f}" if domain is not None else "",
        f"general {general:.4f}" if general is not None else "",
    ]
    if report.step and view.base is not None:
        base = view.domain_bpb(view.base)
        forgetting = view.forgetting(report)
        parts.append("" if base is None or domain is None else f"gain {base - domain:+.4f}")
        parts.append("" if forgetting is None else f"forgetting {forgetting:+.4f}")
    return f"hold-outs of {name}, bits per byte: " + "  ".join(part for part in parts if part)


def _checkpoint(report: CheckpointReport) -> str:
    size = f", {format_bytes(report.size_bytes)}" if report.size_bytes else ""
    detail = f": {report.detail}" if report.detail else ""
    return f"checkpoint at step {report.step} {report.event.replace('_', ' ')}{size}{detail}"
