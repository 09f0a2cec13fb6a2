"""What is drawn of a run: the fold over its reports, the live view, plain lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from steep.cli.console import LiveScreen, PlainScreen, make_screen
from steep.cli.lines import describe
from steep.cli.tail import Tail
from steep.cli.view import View, sparkline
from steep.spec.reports import CheckpointReport, EvaluationReport, NoticeReport, ProgressReport, StageReport, StepReport
from steep.spec.stages import Stage


def step(number, time=0.0, **changed):
    values = {
        "step": number, "total_steps": 100, "tokens_seen": number * 1000, "loss": 4.0 - number / 100, "learning_rate": 1e-3,
        "gradient_norm": 1.0, "step_seconds": 0.5, "tokens_per_second": 2000.0, "time": time,
    }  # fmt: skip
    return StepReport(**(values | changed))


def evaluation(number, domain, **general):
    return EvaluationReport(step=number, tokens_seen=number * 1000, domain_bpb={"docs": domain}, general_bpb=general)


def view_of(*reports):
    view = View()
    for report in reports:
        view.add(report)
    return view


def drawn(*reports, encoding="utf-8", width=100):
    """The last frame of the live view."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, force_terminal=True, width=width, height=40, legacy_windows=False)
    screen = LiveScreen(console)
    screen._live.auto_refresh = False
    for report in reports:
        screen.show(report)
    screen.close()
    stream.seek(0)
    return stream.read()


def test_forgetting_is_the_worst_and_not_the_mean():
    view = view_of(evaluation(0, 2.0, novels=1.0, self=1.5), evaluation(10, 1.5, novels=1.1, self=1.2))
    assert view.forgetting(view.evaluations[10]) == pytest.approx(0.1)


def test_domain_holdouts_count_by_their_bytes_as_in_results():
    base = EvaluationReport(
        step=0, tokens_seen=0, domain_bpb={"small": 4.0, "large": 2.0}, general_bpb={},
        domain_bytes={"small": 100, "large": 300},
    )  # fmt: skip
    later = EvaluationReport(step=10, tokens_seen=10, domain_bpb={"small": 3.0, "large": 1.0}, general_bpb={})
    view = view_of(base, later)
    assert view.domain_bpb(base) == pytest.approx(2.5)
    assert view.domain_bpb(later) == pytest.approx(1.5)
    assert "domain 1.5000  gain +1.0000" in describe(later, view)
    assert view_of(later).domain_bpb(later) == pytest.approx(2.0), "of which nobody told the bytes"


def test_forgetting_cannot_be_said_without_the_base():
    view = view_of(evaluation(10, 1.5, novels=1.1))
    assert view.forgetting(view.evaluations[10]) is None


def test_remaining_time_follows_the_pace_with_its_pauses():
    view = view_of(*(step(n, time=1000 + 2 * n) for n in range(1, 11)))  # 2 s a step, though step_seconds says 0.5
    assert view.remaining_seconds == pytest.approx(180)
    assert view_of(step(1), step(2)).remaining_seconds is None


def test_going_back_forgets_what_was_ahead():
    view = view_of(evaluation(0, 2.0), step(10), evaluation(10, 1.5), step(11), evaluation(20, 1.0), step(6))
    assert sorted(view.evaluations) == [0]
    assert view.step.step == 6


def test_a_stage_that_starts_again_takes_back_the_later_ones():
    done = [StageReport(stage=stage, event="completed") for stage in Stage]
    view = view_of(*done, StageReport(stage=Stage.TRAIN, event="started"))
    assert view.stage == Stage.TRAIN
    assert Stage.EXPORT not in view.stages
    assert view.stages[Stage.PREPARE].event == "completed"


def test_a_skipped_step_is_not_on_the_curve():
    assert list(view_of(step(1), step(2, skipped=True, loss=99.0)).losses) == [3.99]


def test_deleted_checkpoints_are_gone():
    saved = [CheckpointReport(step=n, event="saved") for n in (10, 20)]
    assert sorted(view_of(*saved, CheckpointReport(step=10, event="deleted")).checkpoints) == [20]


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [([], 5, ""), ([1.0], 5, "▁"), ([0.0, 7.0], 5, "▁█"), ([3.0] * 9, 3, "▁▁▁"), ([0, 0, 4, 4, 7, 7], 3, "▁▅█")],
)
def test_sparkline(values, width, line):
    assert sparkline(values, width) == line


def test_the_live_view_shows_all_that_matters():
    frame = drawn(
        StageReport(stage=Stage.PREPARE, event="completed", seconds=12),
        StageReport(stage=Stage.TRAIN, event="started"),
        evaluation(0, 2.0, novels=1.0),
        *(step(n, time=1000 + 2 * n, mfu=0.42, peak_memory_bytes=2 * 10**9) for n in range(1, 11)),
        evaluation(10, 1.5, novels=1.1),
        NoticeReport(level="warning", code="x", message="the loss leapt"),
    )
    for part in ("✓ prepare", "12 s", "● train", "step 10 of 100", "loss 3.900", "▁", "3 min left", "MFU 42%"):
        assert part in frame, part
    for part in ("2k tokens/s", "memory 2 GB", "+0.500", "+0.100", "warning: the loss leapt"):
        assert part in frame, part


def test_progress_before_training():
    frame = drawn(
        StageReport(stage=Stage.PREPARE, event="started"),
        ProgressReport(stage=Stage.PREPARE, what="files read", done=30, total=120),
    )
    assert "files read" in frame
    assert "25%" in frame


def test_a_line_of_progress_says_how_many_there_are():
    report = ProgressReport(stage=Stage.EVALUATE, what="hold-outs scored", done=2, total=3)
    assert describe(report, View()) == "evaluate: hold-outs scored 2 of 3 (67%)"


def test_a_terminal_without_unicode_gets_plain_marks():
    frame = drawn(StageReport(stage=Stage.PREPARE, event="completed"), step(1), step(2), encoding="ascii")
    assert "+ prepare" in frame


def test_where_there_is_no_terminal_lines_are_printed_without_control_codes():
    stream = io.StringIO()
    screen = make_screen(Console(file=stream))
    assert isinstance(screen, PlainScreen)
    for n in range(1, 101):
        screen.show(step(n))
    screen.close()
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("train: step 1/100")
    assert lines[-1].startswith("train: step 100/100")
    assert len(lines) == 2  # not a line a step
    assert "\x1b" not in stream.getvalue()


def test_what_was_reported_before_is_taken_in_but_is_no_news():
    stream = io.StringIO()
    screen = make_screen(Console(file=stream))
    screen.recall(evaluation(0, 2.0, novels=1.0))
    assert stream.getvalue() == ""
    screen.show(evaluation(10, 1.5, novels=1.1))
    assert "gain +0.5000" in stream.getvalue()


def test_tail_waits_for_whole_lines_and_passes_over_what_it_does_not_know(tmp_path):
    path = tmp_path / "reports.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    line = step(1).model_dump_json()
    path.write_text(line + "\n" + line[:20])
    assert len(tail.read()) == 1
    with open(path, "a") as stream:
        stream.write(line[20:] + '\n{"kind": "of a newer version"}\n')
    assert len(tail.read()) == 1
    assert tail.read() == []
