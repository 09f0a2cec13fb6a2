"""The conformance suite of the store: lists, events, alerts, keys, projects, files, secrets, audit, loops, retention, tables."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from tests.contract.databases import Databases
from tests.contract.makers import begun, gpus, heard, rows, running, spec, state, step, submitted

from steep.server.failure import Ending
from steep.server.placement import Wait
from steep.server.store import migrate as migrations
from steep.server.store.job_views import SORTABLE, JobFilter
from steep.server.store.paging import PageRequest
from steep.server.store.projects import Prunable
from steep.server.store.retention import DAY_SECONDS
from steep.server.store.store import Store
from steep.server.store.tables import metadata
from steep.spec.api.keys import KeyChange, KeyRequest
from steep.spec.api.projects import Keeping, ProjectRequest, Quota
from steep.spec.errors import Conflict, InvalidInput, NotFound, ServerUnavailable
from steep.spec.events import EventKind
from steep.spec.reports import CheckpointReport
from steep.spec.states import Reason, State

# ---------------------------------------------------------------------------------------------------------------- lists


def names(store: Store, **chosen: object) -> str:
    return " ".join(job.name for job in store.jobs.list(0.0, JobFilter(**chosen)).items)  # type: ignore[arg-type]


def test_jobs_are_found_by_state_tag_project_and_name(store: Store) -> None:
    store.projects.create(ProjectRequest(name="docs"), 0.0)
    for number, (name, project, tags) in enumerate(
        (("a_1", "default", ["x"]), ("b_1", "docs", ["x", "y"]), ("ab2", "docs", []), ("a%3", "default", ["y"]))
    ):
        store.jobs.submit(spec(name.replace("%", "."), project=project, more={"tags": tags}), float(number))
    by_name = {job.name: job.id for job in store.jobs.list(0.0).items}
    store.jobs.request_stop(by_name["b_1"], Reason.CANCEL_REQUESTED, "", 9.0)
    store.jobs.request_stop(by_name["a_1"], Reason.PAUSE_REQUESTED, "", 9.0)
    assert names(store) == "a.3 ab2 b_1 a_1"
    assert names(store, states=(State.CANCELLED,)) == "b_1"
    assert names(store, states=(State.QUEUED, State.CANCELLED)) == "a.3 ab2 b_1 a_1"
    assert names(store, tags=("x",)) == "b_1 a_1"
    assert names(store, tags=("x", "y")) == "b_1"
    assert names(store, projects=("docs",)) == "ab2 b_1"
    assert names(store, projects=()) == ""
    assert names(store, name="A") == "a.3 ab2 a_1"
    assert names(store, name="_") == "b_1 a_1", "an underscore is itself"
    assert names(store, name="%") == ""
    assert names(store, paused=True) == "a_1"
    assert names(store, paused=False) == "a.3 ab2 b_1"
    assert names(store, name="\0", tags=("\0",), projects=("\0",)) == ""


def test_pages_hold_each_job_once_in_any_order(store: Store) -> None:
    for number in range(7):
        submitted(store, float(number // 3), f"job-{number}", priority=number % 2)
    for sort_by in SORTABLE:
        for descending in (False, True):
            pages = [
                store.jobs.list(0.0, page=PageRequest(page, 3, sort_by, descending, include_total=True))
                for page in (1, 2, 3, 4)
            ]
            found = [job for page in pages for job in page.items]
            assert sorted(job.name for job in found) == [f"job-{number}" for number in range(7)]
            equal = [job.id for job in found if job.priority == 0 and job.created_at == 0]
            assert sort_by == "name" or equal == sorted(equal, reverse=descending), (
                "rows that are equal have an order too"
            )
            assert [page.has_more for page in pages] == [True, True, False, False]
            assert {page.total for page in pages} == {7}
    assert store.jobs.list(0.0).total is None
    for wrong in (PageRequest(page=0), PageRequest(page_size=0), PageRequest(page_size=5000), PageRequest(sort_by="x")):
        with pytest.raises(InvalidInput):
            store.jobs.list(0.0, page=wrong)


def test_a_list_is_read_on_behind_a_row_whatever_came_meanwhile(store: Store) -> None:
    for number in range(7):
        submitted(store, float(number // 3), f"job-{number}")
    for descending in (False, True):
        whole = [job.id for job in store.jobs.list(0.0, page=PageRequest(descending=descending)).items]
        found: list[str] = []
        while True:
            asked = PageRequest(page_size=2, descending=descending, after=found[-1] if found else None)
            page = store.jobs.list(0.0, page=asked)
            found += [job.id for job in page.items]
            submitted(store, 5.0 if descending else -5.0, "in-front")
            if not page.has_more:
                break
        assert found == whole
    last = store.events.last_id()
    behind = store.events.list(PageRequest(sort_by="id", descending=True, after=last - 1, page_size=2)).items
    assert [event.id for event in behind] == [last - 2, last - 3]
    with pytest.raises(InvalidInput, match="there is no job-unknown"):
        store.jobs.list(0.0, page=PageRequest(after="job-unknown"))


def test_a_total_counts_what_was_asked_for(store: Store) -> None:
    for number in range(5):
        store.jobs.submit(spec(more={"tags": ["x"] if number < 2 else []}), 0.0)
    page = store.jobs.list(0.0, JobFilter(tags=("x",)), PageRequest(page_size=1, include_total=True))
    assert (len(page.items), page.has_more, page.total) == (1, True, 2)


def test_lists_of_jobs_are_read_by_an_index(store: Store) -> None:
    with store.database.read() as connection:
        if not store.database.is_sqlite:
            pytest.skip("a small table is read whole on PostgreSQL, and rightly so")
        for query in (
            "SELECT id FROM jobs ORDER BY created_at DESC LIMIT 50",
            "SELECT id FROM jobs WHERE state = 'queued' ORDER BY created_at DESC LIMIT 50",
            "SELECT id FROM jobs WHERE project = 'default' ORDER BY created_at DESC LIMIT 50",
            "SELECT count(*) FROM jobs WHERE project = 'default' AND state = 'queued'",
            "SELECT * FROM attempts WHERE ended_at IS NULL AND lease_expires_at <= 5.0 ORDER BY lease_expires_at",
            "SELECT * FROM events WHERE job_id = 'x' AND id > 5 ORDER BY id",
            "SELECT * FROM events WHERE project = 'x' AND id > 5 ORDER BY id",
            "SELECT * FROM deliveries WHERE next_try_at <= 5.0 ORDER BY next_try_at",
        ):
            plan = " ".join(row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}")))
            assert "USING" in plan, plan
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, plan


# ---------------------------------------------------------------------------------------------------- queue and devices


def test_a_snapshot_holds_who_waits_and_who_runs(store: Store) -> None:
    submitted(store, held=True)
    waiting = submitted(store, 5.0, gpu="H100", gpu_count=2, location="eu", priority=3)
    attempt = running(store, devices=gpus(1, 0))
    store.jobs.request_stop(attempt.job_id, Reason.PREEMPT_REQUESTED, "", 9.0)
    found = store.queue.snapshot(10.0)
    (job,) = found.waiting
    assert tuple(job)[:8] == (waiting.id, "default", 3, 2, "H100", "eu", 5.0, 5.0)
    assert (job.reason, job.detail) == ("submitted", "just submitted")
    (one,) = found.running
    assert (one.id, one.gpus, one.stopping) == (attempt.job_id, 2, True)
    assert one.devices == (("local", "gpu-0"), ("local", "gpu-1"))
    assert [project.name for project in found.projects] == ["default"]
    assert store.queue.counts() == {State.QUEUED: 2, State.STOPPING: 1}


def test_waits_are_written_where_they_changed_and_a_new_reason_is_an_event(store: Store) -> None:
    job, held, gone = submitted(store), submitted(store, held=True), submitted(store)
    store.jobs.request_stop(gone.id, Reason.CANCEL_REQUESTED, "", 1.0)
    waits = [Wait(one.id, Reason.WAITING_FOR_DEVICES, "1 job ahead", 2) for one in (job, held, gone)]
    assert store.queue.record_waits(waits, 2.0) >= 1
    assert state(store, job.id) == (State.QUEUED, "waiting_for_devices")
    assert state(store, held.id) == (State.QUEUED, "held_by_user")
    assert state(store, gone.id)[0] is State.CANCELLED
    assert store.queue.record_waits(waits[:1], 3.0) == 0
    assert store.queue.record_waits([Wait(job.id, Reason.WAITING_FOR_DEVICES, "next", 1)], 4.0) == 1
    assert store.jobs.get(job.id, 5.0).standing.detail == "next"
    events = store.events.after(0, job_id=job.id)
    assert [(str(event.kind), event.message) for event in events[2:]] == [("queued", "1 job ahead")]
    begun(store, job.id, 6.0)
    assert store.queue.record_waits(waits[:1], 7.0) == 0
    assert state(store, job.id)[0] is State.PROVISIONING


# ------------------------------------------------------------------------------------------------------ events and alerts


def test_events_are_read_on_from_the_last_one(store: Store) -> None:
    store.projects.create(ProjectRequest(name="docs"), 0.0)
    one, other = submitted(store), submitted(store, project="docs")
    everything = store.events.after(0)
    assert [event.id for event in everything] == [1, 2, 3, 4]
    assert store.events.last_id() == 4
    assert [event.id for event in store.events.after(1, job_id=one.id)] == [2]
    assert [event.id for event in store.events.after(0, projects=("docs",))] == [3, 4]
    assert [event.id for event in store.events.after(0, kinds=(EventKind.QUEUED,))] == [2, 4]
    assert [event.id for event in store.events.after(0, limit=3)] == [1, 2, 3]
    assert store.events.after(4) == []
    page = store.events.list(PageRequest(2, 3, include_total=True))
    assert ([event.id for event in page.items], page.total) == ([4], 4)
    store.jobs.tell(other.id, EventKind.GUARD_TRIGGERED, "went back", 9.0, data={"step": 3})
    assert store.events.after(4)[0].data == {"step": 3}


ALERTS = [{"webhook": "https://example.org/hook"}, {"email": "a@example.org", "on": ["created", "succeeded"]}]


def test_alerts_are_written_with_their_event_and_handed_out_once_at_a_time(store: Store) -> None:
    job = submitted(store, alerts=ALERTS)
    store.jobs.request_stop(job.id, Reason.CANCEL_REQUESTED, "", 1.0)
    first = store.outbox.claim(2.0, try_seconds=30.0)
    assert [(str(each.event.kind), each.alert.email) for each in first] == [
        ("created", "a@example.org"),
        ("cancelled", None),
    ]
    assert first[0].job_name == "a-job"
    assert store.outbox.claim(3.0) == [], "somebody has them"
    store.outbox.delivered(first[0], 4.0)
    store.outbox.failed(first[1], "no route", 50.0, 4.0)
    assert store.outbox.claim(49.0) == []
    (again,) = store.outbox.claim(50.0, try_seconds=10.0)
    assert (again.id, again.tries) == (first[1].id, 2)
    store.outbox.failed(first[1], "late word of the first try", None, 51.0)
    (third,) = store.outbox.claim(60.0)
    store.outbox.failed(third, "no route", None, 61.0)
    assert store.outbox.waiting() == 0
    failed = store.events.after(0, job_id=job.id)[-1]
    assert (failed.kind, failed.data["event_id"]) == (EventKind.ALERT_FAILED, first[1].event.id)


def test_who_could_not_be_told_is_not_told_so(store: Store) -> None:
    kinds = ["created", "alert_failed"]
    submitted(
        store, alerts=[{"email": "a@b", "on": kinds}, *({"email": name, "on": kinds[1:]} for name in ("c@d", "e@f"))]
    )
    told = []
    while due := store.outbox.claim(2.0):
        told.append([(each.alert.email, str(each.event.kind)) for each in due])
        for each in due:
            store.outbox.failed(each, "no route", None, 2.0)
    assert told == [
        [("a@b", "created")],
        [("c@d", "alert_failed"), ("e@f", "alert_failed")],
        [("e@f", "alert_failed"), ("c@d", "alert_failed")],  # of one another, once
    ]


def test_a_receiver_gets_the_events_of_a_job_in_their_order(store: Store) -> None:
    alerts = [{"email": name, "on": ["created", "queued", "cancelled"]} for name in ("a@b", "c@d")]
    jobs = [submitted(store, alerts=alerts), submitted(store, alerts=alerts)]
    due = store.outbox.claim(2.0, try_seconds=5.0)
    assert len(due) == 4  # of each line the first
    assert {str(each.event.kind) for each in due} == {"created"}
    first = next(each for each in due if (each.event.job_id, each.alert.email) == (jobs[0].id, "a@b"))
    store.outbox.failed(first, "no route", 9.0, 3.0)
    for each in due:
        if each is not first:
            store.outbox.delivered(each, 3.0)
    store.jobs.request_stop(jobs[0].id, Reason.CANCEL_REQUESTED, "", 3.0)
    seen = []
    while due := store.outbox.claim(4.0):
        for each in due:
            seen.append((each.event.job_id, each.alert.email, str(each.event.kind)))
            store.outbox.delivered(each, 4.0)
    assert len(seen) == 4  # what is behind the one that failed waits
    assert [kind for *line, kind in seen if line == [jobs[0].id, "c@d"]] == ["queued", "cancelled"]
    (again,) = store.outbox.claim(9.0)
    assert (again.id, again.since) == (first.id, 0.0)
    store.outbox.failed(again, "no route", None, 10.0)  # given up: the others go on
    (following,) = store.outbox.claim(10.0)
    assert str(following.event.kind) == "queued"


# ------------------------------------------------------------------------------------------------------ keys and projects


def test_a_key_opens_until_it_expires_or_is_revoked(store: Store) -> None:
    made = store.keys.create(KeyRequest(name="ci", role="viewer", expires_in_seconds=100), 10.0)
    assert made.secret.startswith(made.prefix)
    assert made.secret not in repr(rows(store, "SELECT * FROM keys"))
    found = store.keys.authenticate(made.secret, 50.0)
    assert found is not None
    assert (found.id, found.role, found.expires_at) == (made.id, "viewer", 110.0)
    assert store.keys.authenticate(made.secret, 110.0) is None
    for wrong in ("", "steep_", made.secret + "x", made.prefix, "\0", made.secret.upper()):
        assert store.keys.authenticate(wrong, 50.0) is None
    assert store.keys.change(made.id, KeyChange(role="admin"), 50.0).role == "admin"
    revoked = store.keys.revoke(made.id, 60.0)
    assert store.keys.revoke(made.id, 70.0) == revoked
    assert store.keys.authenticate(made.secret, 61.0) is None
    with pytest.raises(Conflict, match="revoked"):
        store.keys.change(made.id, KeyChange(name="x"), 80.0)
    assert [key.revoked_at for key in store.keys.list().items] == [60.0]


def test_use_of_a_key_is_counted_by_hour(store: Store) -> None:
    key = store.keys.create(KeyRequest(name="ci"), 0.0)
    store.keys.count_use({key.id: 3, "key-none": 2}, 3600.0 * 100)
    store.keys.count_use({key.id: 2}, 3600.0 * 100 + 5)
    store.keys.count_use({key.id: 1}, 3600.0 * 102)
    usage = store.keys.usage(key.id, 3600.0 * 102 + 9, num_buckets=3)
    assert (usage.counts, usage.since) == ((5, 0, 1), 3600.0 * 100)
    assert store.keys.usage(key.id, 3600.0 * 102, bucket_seconds=86_400, num_buckets=2).counts == (0, 6)
    assert store.keys.get(key.id).last_used_at == 3600.0 * 102
    with pytest.raises(InvalidInput):
        store.keys.usage(key.id, 0.0, bucket_seconds=100)


def test_a_project_names_jobs_of_which_it_keeps_only_some_checkpoints(store: Store) -> None:
    keep = Keeping(after_seconds=100.0, last=1, best=2)
    assert store.projects.create(ProjectRequest(name="law", keep=keep), 0.0).keep == keep
    saved = [CheckpointReport(step=number, event="saved", size_bytes=10) for number in (1, 2, 3)]
    jobs = [running(store, project=project, devices=[]) for project in ("law", "law", "default")]
    for job in jobs:
        heard(store, job, 5.0, *saved, CheckpointReport(step=1, event="deleted", size_bytes=12))
    for job in (jobs[0], jobs[2]):
        store.attempts.finish(job.job_id, 1, Ending(exit_code=0), 50.0)
    assert store.projects.prunable(149.0) == []
    assert store.projects.prunable(150.0) == [Prunable(jobs[0].job_id, "law", 1, 2)]
    store.checkpoints.delete(jobs[0].job_id, 2, 11, "", 151.0)
    store.checkpoints.delete(jobs[0].job_id, 2, 11, "", 151.0)
    assert store.projects.prunable(152.0) == []
    assert store.jobs.get(jobs[0].job_id, 152.0).cost.freed_bytes == 23
    law = store.projects.get("law")
    assert (law.stored_bytes, law.freed_bytes) == (30, 35)


def test_projects_tell_what_they_may_use_and_what_they_use(store: Store) -> None:
    store.projects.create(ProjectRequest(name="docs", share=2.0, quota=Quota(stored_bytes=10)), 1.0)
    with pytest.raises(Conflict):
        store.projects.create(ProjectRequest(name="docs"), 2.0)
    store.projects.ensure("docs", 2.0)
    store.files.add("a.txt", "docs", 5, "hash", 2.0)
    with pytest.raises(InvalidInput, match="has no room for it"):
        store.files.add("b.txt", "docs", 6, "hash", 2.0)
    running(store, project="docs", devices=gpus(1, 2))
    found = store.projects.get("docs")
    assert (found.share, found.quota.stored_bytes, found.stored_bytes) == (2.0, 10, 5)
    assert (found.gpus_in_use, found.jobs_in_use) == (2, 1)
    (_, use) = sorted(store.queue.snapshot(3.0).projects)
    assert (use.name, use.share, use.quota_stored_bytes, use.stored_bytes) == ("docs", 2.0, 10, 5)
    changed = store.projects.change(ProjectRequest(name="docs", quota=Quota(gpus=1)), 3.0)
    assert (changed.quota, changed.share) == (Quota(gpus=1), 2.0), "what is not given stays"
    changed = store.projects.change(ProjectRequest(name="docs", share=3.0, keep=Keeping(last=2)), 3.0)
    assert (changed.quota, changed.share, changed.keep.last) == (Quota(gpus=1), 3.0, 2)
    assert store.projects.change(ProjectRequest(name="docs"), 3.0) == changed
    assert [project.name for project in store.projects.list().items] == ["default", "docs"]
    assert [project.name for project in store.projects.list(names=("docs",)).items] == ["docs"]
    for ask in (
        lambda: store.projects.get("none"),
        lambda: store.projects.change(ProjectRequest(name="none"), 3.0),
    ):
        with pytest.raises(NotFound):
            ask()


def test_files_secrets_and_the_audit_log_are_kept(store: Store) -> None:
    file = store.files.add("a.txt", "default", 3 << 40, "hash", 1.0, created_by="key-1")
    assert store.files.get(file.id) == file
    assert [one.id for one in store.files.list(name="A.T").items] == [file.id]
    assert store.files.list(of_projects=("docs",)).items == ()
    assert store.files.delete(file.id, 2.0) == file
    store.secrets.put("default", "hub", b"\0\xff", 1.0)
    store.secrets.put("default", "hub", b"new", 5.0)
    assert store.secrets.get("default", "hub") == b"new"
    assert [(one.name, one.created_at, one.updated_at) for one in store.secrets.list("default")] == [("hub", 1.0, 5.0)]
    store.secrets.delete("default", "hub", 6.0)
    for ask in (
        lambda: store.files.get(file.id),
        lambda: store.secrets.get("default", "hub"),
        lambda: store.secrets.delete("default", "hub", 7.0),
    ):
        with pytest.raises(NotFound):
            ask()
    with pytest.raises(InvalidInput, match="no project"):
        store.files.add("a", "none", 1, "h", 1.0)
    store.audit.record("key-1", "jobs.cancel", 1.0, subject="job-1", project="default", data={"n": float("nan")})
    store.audit.record("key-2", "keys.create", 2.0, outcome="refused")
    assert [entry.actor for entry in store.audit.list().items] == ["key-2", "key-1"]
    assert [entry.action for entry in store.audit.list(subject="job-1").items] == ["jobs.cancel"]
    assert [entry.actor for entry in store.audit.list(projects=("default",)).items] == ["key-1"]


# -------------------------------------------------------------------------------------------------- loops and retention


def test_one_replica_acts_at_a_time_and_another_takes_over(store: Store) -> None:
    take = lambda holder, now: store.loops.acquire("scheduler", holder, now, lease_seconds=10.0)  # noqa: E731
    assert take("a", 0.0)
    assert not take("b", 9.0)
    assert take("a", 9.0)
    assert not take("b", 18.9)
    assert take("b", 19.0)
    assert not take("a", 20.0)
    assert (store.loops.holder("scheduler", 20.0), store.loops.turns("scheduler")) == ("b", 2)
    store.loops.release("scheduler", "a", 21.0)
    assert not take("a", 21.0)
    store.loops.release("scheduler", "b", 21.0)
    assert take("a", 21.0)
    assert take("b", -1e6), "the clock was set back; nobody waits for the time that was before"
    assert store.loops.acquire("reaper", "c", 0.0, lease_seconds=10.0)


def test_old_news_goes_and_what_is_still_needed_stays(store: Store) -> None:
    old = running(store, alerts=ALERTS, devices=gpus(0))
    heard(store, old, 3.0, step(1, time=20.0))
    store.attempts.finish(old.job_id, 1, Ending(exit_code=0), 4.0)
    alive = running(store, devices=gpus(1))
    heard(store, alive, 5.0, step(1, time=20.0))
    kinds = lambda job_id: {str(event.kind) for event in store.events.after(0, job_id=job_id)}  # noqa: E731
    assert store.retention.prune(1 * DAY_SECONDS) == 0
    assert store.retention.prune(3 * DAY_SECONDS) == 2
    assert "progress" not in kinds(old.job_id) | kinds(alive.job_id)
    assert "created" in kinds(old.job_id)
    while store.retention.prune(200 * DAY_SECONDS, limit=2):
        pass
    assert kinds(old.job_id) == {"created", "succeeded"}, "alerts of these are still to be sent"
    assert kinds(alive.job_id) == {"created", "queued", "provisioned", "started"}
    while due := store.outbox.claim(300 * DAY_SECONDS):
        for delivery in due:
            store.outbox.delivered(delivery, 300 * DAY_SECONDS)
    store.retention.prune(300 * DAY_SECONDS)
    assert kinds(old.job_id) == set()
    assert store.jobs.get(old.job_id, 0.0).standing.state is State.SUCCEEDED


# -------------------------------------------------------------------------------------------------------------- tables


def test_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
    assert ScriptDirectory(str(migrations._SCRIPTS)).get_heads() == [migrations.NEWEST]


def test_what_an_older_version_wrote_stays(databases: Databases) -> None:
    url = databases.empty()
    opened = Store.open(url, migrate=False)
    with opened.database.write(0.0) as transaction:
        migrations._upgrade(transaction.connection, "0001")
        for statement in FIRST_VERSION:
            transaction.connection.execute(text(statement))
    opened.close()
    opened = Store.open(url)
    (delivery,) = opened.outbox.claim(50.0)
    assert (delivery.since, delivery.job_name, delivery.event.message) == (7.0, "old", "it was")
    checkpoint = opened.checkpoints.get("job-old", 8)
    assert (checkpoint.domain_bpb, checkpoint.gain, checkpoint.scores) == (1.5, 0.25, {})
    assert opened.jobs.get("job-old", 50.0).kind == "training"
    assert opened.projects.get("default").keep.after_seconds is None
    opened.close()


def test_what_jobs_cost_is_in_the_servers_currency(databases: Databases) -> None:
    opened = Store.open(databases.new(), currency="EUR")
    job = submitted(opened)
    (listed,) = opened.jobs.list(1.0).items
    shown = (job, listed, opened.jobs.get(job.id, 1.0), opened.jobs.detail(job.id, 1.0))
    assert [view.cost.currency for view in shown] == ["EUR"] * 4
    opened.close()


def test_many_replicas_may_migrate_at_once(databases: Databases) -> None:
    url = databases.empty()
    program = f"from steep.server.store.migrate import migrate; migrate({url!r})"
    started = [subprocess.Popen([sys.executable, "-W", "error", "-c", program]) for _ in range(2)]
    assert [one.wait(timeout=120) for one in started] == [0, 0]
    opened = Store.open(url)
    submitted(opened)
    assert [project.name for project in opened.projects.all()] == ["default"]
    opened.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(databases: Databases) -> None:
    url = databases.new()
    opened = Store.open(url)
    with opened.database.write(0.0) as transaction:
        transaction.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    opened.close()
    with pytest.raises(InvalidInput, match="another version"):
        Store.open(url)


FIRST_VERSION = (
    """INSERT INTO jobs (id, name, project, base, priority, limits, limits_told, alerts, max_attempts, forgetting_budget,
    created_by, created_at, queued_at, not_before, attempts, gpu_seconds, work_seconds, cost, stored_bytes, outcome,
    state, reason, detail, since, version) VALUES ('job-old', 'old', 'default', 'org/x', 0, '{}', '[]', '[]', 10, 0.02,
    '', 1, 1, 1, 0, 0, 0, 0, 0, '{}', 'cancelled', 'cancelled_by_user', '', 7, 0)""",
    """INSERT INTO job_progress (job_id, next_report, next_log, progress, told_at) VALUES ('job-old', 0, '{}', '{}', 0)""",
    """INSERT INTO events (id, job_id, project, kind, time, message, data)
    VALUES (1, 'job-old', 'default', 'cancelled', 7, 'it was', '{}')""",
    """INSERT INTO checkpoints (job_id, step, attempt, tokens_seen, created_at, size_bytes, state, uploaded, pinned, selected)
    VALUES ('job-old', 8, 1, 1, 1, 1, 'valid', false, false, false)""",
    """INSERT INTO evaluations (job_id, step, attempt, tokens_seen, time, domain, general, gain)
    VALUES ('job-old', 8, 1, 1, 1, '{"a": 1.0, "b": 2.0}', '{}', 0.25)""",
    """INSERT INTO deliveries (event_id, alert, next_try_at, tries, error) VALUES (1, '{"email": "a@b"}', 8, 0, '')""",
)
"""Rows as the first version of the tables had them."""


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://a/b", "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_database_is_refused_with_what_would_be(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Store.open(url)
    assert "sqlite:///" in (caught.value.cure or "")


def test_a_database_that_does_not_answer_is_said_without_its_password() -> None:
    with pytest.raises(ServerUnavailable) as caught:
        Store.open("postgresql://me:hunter2@127.0.0.1:9/steep")
    assert "hunter2" not in f"{caught.value} {caught.value.cure}"
