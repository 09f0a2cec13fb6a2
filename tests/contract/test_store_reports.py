"""The conformance suite of the store: what workers say, and what is made of it."""

from __future__ import annotations

import math

import pytest
from tests.contract.makers import begun, contents, gpus, heard, running, spec, state, step

from steep.server.failure import Ending
from steep.server.store.attempts import Begun, Told
from steep.server.store.paging import PageRequest
from steep.server.store.reports import PROGRESS_EVENT_SECONDS
from steep.server.store.store import Store
from steep.spec.api.attempts import DeviceSample, LogLine, ReportsRequest
from steep.spec.errors import Conflict, Fenced, InvalidInput, NotFound
from steep.spec.events import EventKind
from steep.spec.reports import (
    CheckpointReport,
    EvaluationReport,
    NoticeReport,
    ProgressReport,
    Report,
    StageReport,
)
from steep.spec.states import State


def told(store: Store, job_id: str, kind: EventKind) -> list[dict[str, object]]:
    return [event.data for event in store.events.after(0, job_id=job_id, kinds=(kind,))]


def measured(number: int, domain: float, general: float) -> EvaluationReport:
    return EvaluationReport(
        step=number, tokens_seen=number * 1000, domain_bpb={"docs": domain}, general_bpb={"a": 1.0, "b": general}
    )


def test_reports_are_taken_once_and_in_order(store: Store) -> None:
    attempt = running(store)
    said = (step(1), NoticeReport(code="told_once", message="once"))
    assert heard(store, attempt, 5.0, *said).next_report == 2
    before = contents(store)
    assert heard(store, attempt, 5.0, *said).next_report == 2
    assert heard(store, attempt, 5.0, step(9), first=7).next_report == 2, "there is a gap before it"
    assert contents(store) == before
    assert heard(store, attempt, 6.0, step(2), step(3), first=1).next_report == 3
    assert store.jobs.get(attempt.job_id, 6.0).progress.step == 3


def test_numbers_of_reports_go_on_over_attempts(store: Store) -> None:
    first = running(store)
    heard(store, first, 5.0, step(1), step(2))
    store.attempts.catch_up(first.job_id, 1, ReportsRequest(reports=(step(3).model_copy(update={"sequence": 2}),)), 6.0)
    store.attempts.finish(first.job_id, 1, Ending(exit_code=-9), 7.0)
    second = begun(store, first.job_id, 100.0)
    assert heard(store, second, 101.0).next_report == 3
    assert [view.exit_code for view in store.jobs.attempts(first.job_id)] == [-9, None]


def test_progress_is_the_newest_and_events_tell_of_it_now_and_then(store: Store) -> None:
    attempt = running(store)
    reports: list[Report] = [StageReport(stage="train", event="started", time=100.0)]
    reports += [step(number, time=100.0 + number) for number in range(1, 31)]
    heard(store, attempt, 131.0, *reports)
    progress = store.jobs.get(attempt.job_id, 131.0).progress
    assert (progress.stage, progress.step, progress.total_steps, progress.tokens_seen) == ("train", 30, 100, 30_000)
    assert progress.eta_seconds == 35.0
    assert [data["step"] for data in told(store, attempt.job_id, EventKind.PROGRESS)] == [1, 11, 21]
    assert PROGRESS_EVENT_SECONDS == 10.0
    heard(store, attempt, 140.0, ProgressReport(stage="evaluate", what="texts", done=3, total=4, time=139), first=31)
    progress = store.jobs.get(attempt.job_id, 140.0).progress
    assert (progress.stage, progress.what, progress.done, progress.total) == ("evaluate", "texts", 3, 4)
    assert progress.step == 30


def test_a_clock_that_ran_ahead_silences_no_progress_once_it_is_right_again(store: Store) -> None:
    attempt = running(store)
    heard(store, attempt, 100.0, step(1, time=1e6))
    heard(store, attempt, 101.0, step(2, time=101.0), step(3, time=102.0), step(4, time=112.0), first=1)
    assert [data["step"] for data in told(store, attempt.job_id, EventKind.PROGRESS)] == [1, 2, 4]


def test_a_loss_that_is_no_number_and_letters_that_no_database_knows_are_kept(store: Store) -> None:
    attempt = running(store)
    odd = NoticeReport(code="odd", message="a\0b \ud800 \N{SNOWMAN}")
    heard(store, attempt, 5.0, step(1, loss=math.nan, time=5.0), odd)
    progress = store.jobs.get(attempt.job_id, 5.0).progress
    assert progress.loss is not None
    assert math.isnan(progress.loss)
    message = store.events.after(0, job_id=attempt.job_id, kinds=(EventKind.NOTICE,))[0].message
    assert message == "a\N{REPLACEMENT CHARACTER}b ? \N{SNOWMAN}"


def test_stages_and_notices_become_events_of_their_own_kind(store: Store) -> None:
    attempt = running(store)
    heard(
        store,
        attempt,
        5.0,
        NoticeReport(code="resumed", message="going on from step 4", step=4),
        NoticeReport(code="loss_spike", message="loss 9", step=5),
        NoticeReport(code="too_little_text", message="hm"),
        NoticeReport(code="guard_warned", message="novels is worse", step=6),
        NoticeReport(code="guard_rolled_back", message="novels is worse; training goes on from step 3", step=9),
        StageReport(stage="select", event="completed", seconds=2.0),
        StageReport(stage="export", event="completed", seconds=2.0, time=4.5),
    )
    events = store.events.after(0, job_id=attempt.job_id)
    kinds = [str(event.kind) for event in events if event.attempt == 1]
    assert kinds == [
        "provisioned",
        "started",
        "resumed",
        "loss_spike",
        "notice",
        "guard_triggered",
        "rolled_back",
        "stage",
        "selected",
        "stage",
        "exported",
    ]
    assert (events[-1].time, events[-1].attempt) == (4.5, 1)
    assert store.jobs.get(attempt.job_id, 6.0).outcome.has_export


# ---------------------------------------------------------------------------------------------------------- checkpoints


def test_checkpoints_and_measurements_come_together_in_the_catalog(store: Store) -> None:
    attempt = running(store)
    heard(
        store,
        attempt,
        9.0,
        measured(0, 1.2, 1.0),
        CheckpointReport(step=10, event="saved", size_bytes=70, tokens_seen=10_000, time=6.0),
        CheckpointReport(step=10, event="verified", time=7.0),
        measured(10, 0.9, 1.01),
        measured(20, 0.8, 1.05),
        CheckpointReport(step=20, event="saved", size_bytes=30),
        CheckpointReport(step=20, event="uploaded"),
    )
    first, second = store.checkpoints.list(attempt.job_id).items
    assert (first.step, first.state, first.verified_at, first.tokens_seen, first.uploaded) == (
        10,
        "valid",
        7.0,
        10_000,
        False,
    )
    assert (second.step, second.state, second.uploaded) == (20, "unverified", True)
    assert second.parent == f"{attempt.job_id}/10"
    assert first.gain == pytest.approx(0.3)
    assert second.forgetting == pytest.approx(0.05), "the worst of the general texts"
    assert store.jobs.get(attempt.job_id, 9.0).cost.stored_bytes == 100
    assert [one.step for one in store.checkpoints.evaluations(attempt.job_id)] == [0, 10, 20]
    by_gain = store.checkpoints.list(attempt.job_id, PageRequest(sort_by="gain", descending=True)).items
    assert [one.step for one in by_gain] == [20, 10]


def test_forgetting_beyond_the_budget_is_told_when_it_begins(store: Store) -> None:
    attempt = running(store)
    reports = [measured(number * 10, 1.0, general) for number, general in enumerate((1.0, 1.03, 1.04, 1.01, 1.05))]
    heard(store, attempt, 9.0, *reports)
    assert [data["step"] for data in told(store, attempt.job_id, EventKind.FORGETTING_EXCEEDED)] == [10, 40]
    assert len(told(store, attempt.job_id, EventKind.EVALUATED)) == 5


def test_a_measurement_that_is_no_number_counts_as_none(store: Store) -> None:
    attempt = running(store)
    heard(store, attempt, 9.0, measured(0, 1.0, 1.0), measured(10, math.nan, math.nan))
    found = store.checkpoints.evaluations(attempt.job_id)[1]
    assert (found.gain, found.forgetting) == (None, None)


def test_a_deleted_checkpoint_takes_no_bytes_and_still_tells_what_was_measured(store: Store) -> None:
    attempt = running(store)
    saved = [CheckpointReport(step=number, event="saved", size_bytes=50) for number in (10, 20, 30)]
    deleted = CheckpointReport(step=10, event="deleted", size_bytes=50)
    heard(store, attempt, 9.0, measured(0, 1.0, 1.0), measured(10, 0.9, 1.0), *saved, deleted)
    assert store.checkpoints.delete(attempt.job_id, 20, 50, "retention", 10.0)
    assert not store.checkpoints.delete(attempt.job_id, 20, 50, "retention", 11.0)
    assert [one.step for one in store.checkpoints.list(attempt.job_id).items] == [30]
    assert store.jobs.get(attempt.job_id, 9.0).cost.stored_bytes == 50
    gone = store.checkpoints.get(attempt.job_id, 10)
    assert (gone.state, gone.gain) == ("deleted", pytest.approx(0.1))
    assert told(store, attempt.job_id, EventKind.CHECKPOINT_DELETED) == [
        {"step": 10, "freed_bytes": 50},
        {"step": 20, "freed_bytes": 50},
    ]
    with pytest.raises(Conflict, match="deleted"):
        store.checkpoints.pin(attempt.job_id, 20, True, 12.0)
    with pytest.raises(NotFound):
        store.checkpoints.delete(attempt.job_id, 77, 0, "", 12.0)


def test_a_step_that_is_saved_anew_after_going_back_knows_nothing_of_the_old_one(store: Store) -> None:
    attempt = running(store)
    saved = [CheckpointReport(step=n, event="saved", size_bytes=9, tokens_seen=1000 * n) for n in (10, 20, 30)]
    heard(store, attempt, 5.0, *saved, step(31))
    store.checkpoints.pin(attempt.job_id, 20, True, 6.0)
    store.checkpoints.verified(attempt.job_id, 20, "damaged", "bit rot", 6.0)
    assert store.checkpoints.set_aside(attempt.job_id, 10, "forgot too much", 7.0) == [20, 30]
    assert [one.step for one in store.checkpoints.list(attempt.job_id).items] == [10]
    back = store.jobs.get(attempt.job_id, 7.0)
    assert (back.cost.stored_bytes, back.cost.aside_bytes, back.cost.freed_bytes) == (27, 18, 0)
    assert (back.progress.step, back.progress.tokens_seen) == (10, 10_000)
    heard(store, attempt, 8.0, CheckpointReport(step=20, event="saved", size_bytes=8), first=4)
    assert store.jobs.get(attempt.job_id, 8.0).cost.stored_bytes == 9 + 8 + 18
    again = store.checkpoints.get(attempt.job_id, 20)
    assert (again.state, again.pinned, again.size_bytes, again.verified_at) == ("unverified", False, 8, None)


def test_what_a_worker_set_aside_counts_until_it_is_freed(store: Store) -> None:
    attempt = running(store)
    job = attempt.job_id
    saved = [CheckpointReport(step=n, event="saved", size_bytes=9) for n in (10, 20, 30)]
    aside = [CheckpointReport(step=n, event="set_aside") for n in (20, 30, 40)]  # 40 never was there
    heard(store, attempt, 5.0, *saved, *aside)
    assert [one.step for one in store.checkpoints.list(job).items] == [10]
    cost = store.jobs.get(job, 5.0).cost
    assert (cost.stored_bytes, cost.aside_bytes) == (27, 18)
    assert store.projects.get("default").stored_bytes == 27
    assert [data["step"] for data in told(store, job, EventKind.NOTICE)] == [20, 30]
    saved_at = store.checkpoints.get(job, 30).created_at
    store.checkpoints.set_one_aside(job, 30, saved_at, 6.0)  # a second time
    assert store.jobs.get(job, 6.0).cost.aside_bytes == 18
    still = store.checkpoints.get(job, 10)
    store.checkpoints.set_one_aside(job, 10, still.created_at - 1, 6.0)  # it was saved anew
    assert store.checkpoints.get(job, 10) == still
    store.checkpoints.count_aside(job, 9, 11, "freed", 7.0)
    cost = store.jobs.get(job, 7.0).cost
    assert (cost.stored_bytes, cost.aside_bytes, cost.freed_bytes) == (18, 9, 11)
    assert told(store, job, EventKind.NOTICE)[-1]["freed_bytes"] == 11


def test_checkpoints_are_pinned_verified_and_selected(store: Store) -> None:
    attempt = running(store)
    heard(store, attempt, 5.0, *[CheckpointReport(step=n, event="saved", time=float(n)) for n in (1, 2, 3)])
    job_id = attempt.job_id
    assert store.checkpoints.pin(job_id, 2, True, 6.0).pinned
    store.checkpoints.pin(job_id, 2, True, 6.0)
    assert not store.checkpoints.pin(job_id, 2, False, 6.0).pinned
    assert len(told(store, job_id, EventKind.CHECKPOINT_PINNED)) == 1
    assert store.checkpoints.verified(job_id, 1, "valid", "", 50.0).verified_at == 50.0
    assert [one.step for one in store.checkpoints.unverified(before=40.0)] == [2, 3]
    assert [one.step for one in store.checkpoints.unverified(before=60.0)] == [2, 3, 1]
    assert [one.step for one in store.checkpoints.unverified(before=60.0, saved_before=3.0)] == [2, 1]
    store.checkpoints.verified(job_id, 2, "damaged", "of other bytes", 51.0, saved_at=1.5)
    assert store.checkpoints.get(job_id, 2).state == "unverified"
    store.checkpoints.require_sound(job_id, 2)
    store.checkpoints.require_sound(job_id, 99)  # of which nothing is known
    assert store.checkpoints.num_damaged() == 0
    store.checkpoints.verified(job_id, 3, "damaged", "step 3 is damaged", 51.0)
    assert told(store, job_id, EventKind.CHECKPOINT_DAMAGED) == [{"step": 3}]
    assert store.checkpoints.num_damaged() == 1
    with pytest.raises(Conflict, match="step 3 is damaged"):
        store.checkpoints.require_sound(job_id, 3)
    store.checkpoints.select(job_id, 1, 52.0)
    store.checkpoints.select(job_id, 2, 53.0)
    assert [one.selected for one in store.checkpoints.list(job_id).items] == [False, True, False]


def test_what_is_measured_later_stands_at_its_checkpoint(store: Store) -> None:
    attempt = running(store)
    heard(store, attempt, 5.0, *[CheckpointReport(step=n, event="saved", size_bytes=9) for n in (1, 2)])
    job_id = attempt.job_id
    for by, scores in (
        ("job-a", {"quiz": {"acc": 0.5}, "text:tea": {"bpb": math.inf}}),
        ("job-b", {"quiz": {"acc": 0.6}}),
    ):
        for _ in range(2):
            store.checkpoints.add_scores(job_id, 1, scores, by, 6.0)
    assert store.checkpoints.get(job_id, 1).scores == {"quiz": {"acc": 0.6}, "text:tea": {"bpb": math.inf}}
    assert [one.scores == {} for one in store.checkpoints.list(job_id).items] == [False, True]
    assert [data["measured_by"] for data in told(store, job_id, EventKind.EVALUATED)] == ["job-a", "job-b"]
    with pytest.raises(NotFound):
        store.checkpoints.add_scores(job_id, 3, {"quiz": {"acc": 0.5}}, "job-c", 6.0)


def test_holdouts_count_by_their_bytes_and_branches_have_their_parents_base(store: Store) -> None:
    attempt = running(store)
    base = EvaluationReport(
        step=0,
        tokens_seen=0,
        domain_bpb={"a": 2.0, "b": 4.0},
        general_bpb={"g": 1.0},
        domain_bytes={"a": 300, "b": 100},
    )
    later = EvaluationReport(step=10, tokens_seen=10, domain_bpb={"a": 1.0, "b": 3.5}, general_bpb={"g": 1.25})
    saved = CheckpointReport(step=10, event="saved", size_bytes=9)
    heard(store, attempt, 5.0, base, later, saved)
    assert [one.domain_bpb for one in store.checkpoints.evaluations(attempt.job_id)] == [2.5, 1.625]
    assert (view := store.checkpoints.get(attempt.job_id, 10)).domain_bpb == 1.625
    assert (view.gain, view.forgetting) == (0.875, 0.25)
    branch = store.jobs.submit(spec("branch"), 6.0, parent=(attempt.job_id, 10))[0].id
    second = begun(store, branch, 7.0, devices=[])
    heard(store, second, 8.0, later.model_copy(update={"step": 20}), saved.model_copy(update={"step": 20}))
    assert store.checkpoints.get(branch, 20).gain == 0.875
    evaluation = store.jobs.submit(spec("later"), 9.0, parent=(attempt.job_id, 10), kind="evaluation")[0].id
    assert store.checkpoints.evaluations(evaluation) == []


# ------------------------------------------------------------------------------------------------------ logs and samples


def lines(stream: str, *texts: str, offset: int = 0) -> list[LogLine]:
    found = []
    for text in texts:
        end = offset + len(text.encode()) + 1
        found.append(
            LogLine.model_validate({"stream": stream, "offset": offset, "end": end, "text": text, "time": 5.0})
        )
        offset = end
    return found


def test_lines_are_kept_once_and_read_from_any_offset(store: Store) -> None:
    attempt = running(store)
    out, err = lines("stdout", "one", "two", "three"), lines("stderr", "oh")

    def write(*some: LogLine) -> dict[str, int]:
        request = ReportsRequest(logs=some)
        where = (attempt.job_id, 1, attempt.token)
        return store.attempts.record_reports(*where, request, 6.0, lease_seconds=60.0).next_log

    assert write(out[0], err[0], out[1]) == {"stdout": 8, "stderr": 3}
    assert write(out[0], out[1]) == {"stdout": 8, "stderr": 3}
    assert write(*lines("stdout", "far", offset=500)) == {"stdout": 8, "stderr": 3}, "there is a gap before it"
    assert write(out[1], out[2])["stdout"] == 14
    whole = store.logs.read(attempt.job_id, "stdout")
    assert (whole.text, whole.next_offset, whole.is_end) == ("one\ntwo\nthree\n", 14, True)
    assert store.logs.read(attempt.job_id, "stdout", 8).text == "three\n"
    part = store.logs.read(attempt.job_id, "stdout", 0, max_bytes=4)
    assert (part.text, part.next_offset, part.is_end) == ("one\ntwo\n", 8, False)
    assert store.logs.read(attempt.job_id, "stdout", 14).text == ""


def test_samples_are_kept_once(store: Store) -> None:
    attempt = running(store)
    for time in (5.0, 6.0, 6.0):
        request = ReportsRequest(metrics=DeviceSample(time=time, cpu_percent=time))
        where = (attempt.job_id, 1, attempt.token)
        store.attempts.record_reports(*where, request, 6.0, lease_seconds=60.0)
    assert [one.time for one in store.samples.list(attempt.job_id).items] == [6.0, 5.0]
    assert [one.time for one in store.samples.since(attempt.job_id, 1, 5.0)] == [6.0]


def test_a_worker_that_says_nothing_new_writes_next_to_nothing(store: Store) -> None:
    attempt = running(store)
    before = contents(store)
    heard(store, attempt, 500.0)
    after = contents(store)
    assert {name for name in after if after[name] != before[name]} == {"attempts"}
    assert state(store, attempt.job_id) == (State.RUNNING, "working")


def test_what_many_say_is_taken_in_together_and_answered_each_by_itself(store: Store) -> None:
    """One that is fenced, one whose report cannot be written, and the same worker twice keep nobody from being heard."""
    first, second, gone = (running(store, devices=gpus(number), name=f"job-{number}") for number in range(3))
    store.attempts.revoke(gone.job_id, 1, "is fenced", 5.0)

    def says(attempt: Begun, *reports: Report) -> Told:
        numbered = tuple(report.model_copy(update={"sequence": at}) for at, report in enumerate(reports))
        return Told(attempt.job_id, 1, attempt.token, ReportsRequest(reports=numbered))

    told = [says(second, step(1)), says(gone, step(1)), says(first, step(1)), says(first, step(1), step(2))]
    answers = store.attempts.record_many(told, 6.0, lease_seconds=60.0)
    assert [getattr(one, "next_report", type(one)) for one in answers] == [1, Fenced, 1, 2]
    assert store.jobs.get(first.job_id, 6.0).progress.step == 2

    unwritable = says(second, step(1), CheckpointReport(step=2**70, event="saved"))
    answers = store.attempts.record_many([unwritable, says(first, step(1), step(2), step(3))], 7.0, lease_seconds=60.0)
    assert [getattr(one, "next_report", type(one)) for one in answers] == [InvalidInput, 3]
    assert store.jobs.get(second.job_id, 7.0).progress.step == 1
    assert store.jobs.get(first.job_id, 7.0).progress.step == 3
