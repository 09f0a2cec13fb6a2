"""Jobs in print: a row of a list, a whole card, a plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from steep.cli.tables import ago, answer_console, moment, print_table, span, state_cell
from steep.client.progress import describe
from steep.spec.api.jobs import AttemptView, JobDetail, JobView, Plan
from steep.spec.states import Reason, State
from steep.spec.units import format_bytes, format_seconds, format_tokens

if TYPE_CHECKING:
    from rich.text import Text

ENDINGS = {State.SUCCEEDED: "has succeeded", State.FAILED: "has failed", State.CANCELLED: "was cancelled"}
HEADERS = ("id", "name", "state", "gain", "forgetting", "cost", "created", "what")


def print_jobs(views: Sequence[JobView], *, projects: bool, empty: str = "There are no such jobs.") -> None:
    """A list of jobs; with the project of each where several are listed."""
    headers = ("project", *HEADERS) if projects else HEADERS
    rows = ([view.project, *_row(view)] if projects else _row(view) for view in views)
    print_table(headers, rows, empty=empty, right=("gain", "forgetting", "cost"))


def word_of(view: JobView) -> str:
    """The state as people call it: a queued job that is held is paused."""
    return "paused" if view.standing.is_paused else str(view.standing.state)


def sentence(view: JobView) -> str:
    """A job, where it stands, and why."""
    verb = ENDINGS.get(view.standing.state, f"is {word_of(view)}")
    why = what(view)
    return f"{view.id} ({view.name}) {verb}" + (
        f": {why}." if why not in ("complete", "completed", "cancelled") else "."
    )


def what(view: JobView) -> str:
    """Why a job is where it is, or how far it is."""
    why = describe(view).partition(": ")[2]
    told = "ahead" in why or "next in the queue" in why
    place = f"; place {view.position} in the queue" if view.position is not None and not told else ""
    start = "" if view.estimated_start is None else f"; {_beginning(view.estimated_start)}"
    return f"{why}{place}{start}".rstrip(".")


def _beginning(at: float) -> str:
    """When a job will probably begin: at any moment, or in some time."""
    left = at - time.time()
    return "may begin at any moment" if left < 5 else f"may begin in about {span(left)}"


def _row(view: JobView) -> list[str | Text]:
    outcome, cost = view.outcome, view.cost
    return [
        view.id,
        view.name,
        state_cell(view.standing.state, word_of(view)),
        _signed(outcome.gain),
        _signed(outcome.forgetting),
        f"{cost.amount:.2f} {cost.currency}" if cost.amount else "-",
        ago(view.created_at),
        what(view),
    ]


def print_job(job: JobDetail) -> None:
    """Everything that is known of one job."""
    from rich.text import Text

    console = answer_console()
    word = state_cell(job.standing.state, word_of(job))
    console.print(Text.assemble((job.name, "bold"), f"  {job.id}  ", word, f": {what(job)}"), soft_wrap=True)
    for label, text in _facts(job):
        console.print(Text.assemble((f"  {label:<12}", "dim"), text), soft_wrap=True)
    if job.attempt_list:
        console.print()
        print_table(
            ("attempt", "state", "began", "took", "devices", "exit", "why"), map(_attempt, job.attempt_list), empty=""
        )


def _facts(job: JobDetail) -> Iterator[tuple[str, str]]:
    yield "project", f"{job.project}, priority {job.priority}" + (f", tags {', '.join(job.tags)}" if job.tags else "")
    yield "base", job.base
    yield "sources", ", ".join(source.path for source in job.spec.corpus.sources)
    yield "created", f"{moment(job.created_at)} by {job.created_by or 'unknown'}"
    if job.started_at is not None:
        ended = f", ended {moment(job.ended_at)}" if job.ended_at is not None else ""
        yield "started", moment(job.started_at) + ended
    if job.parent is not None:
        yield "branch of", job.parent
    progress = job.progress
    if progress.tokens_seen:
        of = f" of {progress.total_steps:,}" if progress.total_steps else ""
        yield "trained", f"{format_tokens(progress.tokens_seen)} tokens in {progress.step:,}{of} steps"
    yield "used", _used(job)
    limits = _limits(job)
    if limits:
        yield "limits", limits
    if job.outcome.selected_step is not None:
        label = job.outcome.selected or f"step {job.outcome.selected_step}"
        reason = job.outcome.selection_reason.removeprefix(f"{label}: ")
        yield "selected", f"{label}: {reason}".rstrip(": ")
        budget = job.outcome.forgetting_budget
        allowed = "" if budget is None else f" (budget {budget:g})"
        gain, forgetting = _signed(job.outcome.gain), _signed(job.outcome.forgetting)
        yield "result", f"gain {gain}, forgetting {forgetting}{allowed}, bits per byte"
    if job.outcome.has_export:
        yield "export", f"steep jobs download {job.id}"


def _used(job: JobView) -> str:
    cost = job.cost
    parts = [f"{format_seconds(cost.work_seconds)} of work", f"{format_bytes(cost.stored_bytes)} stored"]
    if cost.aside_bytes:
        parts[-1] += f" ({format_bytes(cost.aside_bytes)} of it set aside)"
    if cost.gpu_seconds:
        parts.insert(0, f"{span(cost.gpu_seconds)} of GPUs")
    if cost.amount:
        expected = f" of about {cost.expected_amount:.2f}" if cost.expected_amount is not None else ""
        parts.append(f"{cost.amount:.2f}{expected} {cost.currency}")
    return ", ".join(parts)


def _limits(job: JobView) -> str:
    limits = job.limits
    parts = {
        f"{limits.cost} {job.cost.currency}": limits.cost,
        f"{format_seconds(limits.time or 0)} of work": limits.time,
        f"{format_tokens(limits.tokens or 0)} tokens": limits.tokens,
    }
    return ", ".join(text for text, given in parts.items() if given is not None)


def _attempt(attempt: AttemptView) -> list[str | Text]:
    error = attempt.error
    why = attempt.standing.detail if error is None else error.detail or error.title
    ended = attempt.ended_at
    return [
        str(attempt.number),
        state_cell(attempt.standing.state, "stopped" if attempt.standing.reason is Reason.STOPPED_RESUMABLE else ""),
        moment(attempt.started_at),
        "-" if ended is None else format_seconds(max(0.0, ended - attempt.started_at)),
        ", ".join(attempt.devices) or "-",
        "-" if attempt.exit_code is None else str(attempt.exit_code),
        why,
    ]


def print_plan(plan: Plan) -> None:
    """What a job would take, and why."""
    console = answer_console()
    facts: dict[str, str | None] = {
        "tokens": None if plan.tokens is None else f"{format_tokens(plan.tokens)} tokens",
        "steps": None if plan.steps is None else f"{plan.steps:,} steps",
        "memory": None if plan.memory_bytes is None else f"{format_bytes(plan.memory_bytes)} of memory",
        "time": None if plan.seconds is None else f"about {format_seconds(plan.seconds)}",
        "cost": None if plan.cost is None else f"about {plan.cost:.2f} {plan.currency}",
    }
    if plan.cost == 0:  # the processor has no price: what is not asked for is no news
        del facts["cost"]
    known = [text for text in facts.values() if text is not None]
    unknown = [name for name, text in facts.items() if text is None]
    told = "Valid. It would take " + ", ".join(known) + "." if known else "Valid."
    console.print(told + (f" Not known: {', '.join(unknown)}." if unknown else ""), soft_wrap=True)
    for note in plan.notes:
        console.print(note, soft_wrap=True)
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    if plan.decisions:
        rows = ([one.get("field", ""), one.get("value", ""), one.get("reason", "")] for one in plan.decisions)
        print_table(("number", "value", "why"), rows, empty="")


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
