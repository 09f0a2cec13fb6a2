"""The conformance suite of the store: of a long queue it gives the scheduler what decides, and no more."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event
from tests.contract.makers import begun, gpus, spec

from steep.server.placement import MANY_AHEAD, NUM_COUNTED, Decisions, place
from steep.server.store.queue import NUM_HEADS
from steep.server.store.store import Store
from steep.server.store.submissions import insert_job
from steep.server.waiting import OfferedDevice, Snapshot
from steep.spec.states import Reason

DEVICES = [OfferedDevice("local", f"gpu-{number}", "gpu", "NVIDIA H100 80GB HBM3", "", True) for number in range(12)]


def submit(store: Store, chance: random.Random, first: int, count: int, now: float) -> None:
    """Most of them ask for the same, so that their line is long; some do not, and some of those cannot be met."""
    with store.database.write(now) as transaction:
        for number in range(first, first + count):
            asks = {"gpu_count": 1} if chance.random() < 0.7 else {"gpu_count": chance.choice((1, 2, 4, 16))}
            asks |= {"priority": 1 if chance.random() < 0.2 else 0}
            insert_job(transaction, f"job-{number:04}", spec(f"job-{number}", **asks), "a test", None)


def decide(store: Store, now: float) -> tuple[Decisions, Decisions, Snapshot, Snapshot]:
    whole, heads = store.queue.snapshot(now), store.queue.heads(now)
    whole, heads = (replace(one, devices=DEVICES) for one in (whole, heads))
    return place(whole), place(heads), whole, heads


def test_the_heads_of_lines_decide_as_the_whole_queue_does(store: Store) -> None:
    chance, now, submitted = random.Random(17), 1000.0, 0
    assert NUM_HEADS > NUM_COUNTED
    num_left_out = 0
    for turn in range(12):
        count = 250 if turn == 0 else chance.randrange(30)
        submit(store, chance, submitted, count, now)
        submitted += count
        of_all, of_heads, whole, heads = decide(store, now)
        num_left_out += len(whole.waiting) - len(heads.waiting)
        assert of_heads.placements == of_all.placements
        assert of_heads.preemptions == of_all.preemptions
        said = {(one.job_id, one.reason, one.detail) for one in of_all.waits}
        assert {(one.job_id, one.reason, one.detail) for one in of_heads.waits} == said
        for one in of_heads.placements:
            devices = [device for device in gpus(*range(12)) if device.id in one.devices]
            begun(store, one.job_id, now, devices)
        for one in of_heads.preemptions:
            store.jobs.request_stop(one.job_id, Reason.PREEMPT_REQUESTED, one.detail, now)
        store.queue.record_waits(of_heads.waits, now)
        for job in chance.sample(whole.waiting, 12):  # some of them change their mind
            if job.id not in {one.job_id for one in of_heads.placements}:
                store.jobs.request_stop(job.id, Reason.CANCEL_REQUESTED, "", now)
        now += chance.choice((1.0, 400.0))
    assert num_left_out > 100


def test_those_that_are_backing_off_hide_nobody(store: Store) -> None:
    submit(store, random.Random(17), 0, NUM_HEADS + 50, 1000.0)
    with store.database.write(1001.0) as transaction:
        transaction.connection.exec_driver_sql("UPDATE jobs SET not_before = 5000.0 WHERE id < 'job-0170'")
    late = {job.id for job in store.queue.heads(1002.0).waiting}
    assert late == {f"job-{number:04}" for number in range(170, NUM_HEADS + 50)}
    assert len(store.queue.heads(5001.0).waiting) == NUM_HEADS + 50, "nothing is written down yet of any"
    with store.database.write(
        1003.0
    ) as transaction:  # all are told that many are ahead; now only the first of a line come
        transaction.connection.exec_driver_sql(
            f"UPDATE jobs SET detail = 'waits; {MANY_AHEAD}', priority = 0, gpu_count = 1"
        )
    assert {job.id for job in store.queue.heads(1004.0).waiting} == late
    first = sorted(job.id for job in store.queue.heads(5001.0).waiting)
    assert first == [f"job-{number:04}" for number in range(NUM_HEADS)]


def test_the_heads_of_lines_are_found_by_indexes_and_nothing_is_sorted(store: Store) -> None:
    if not store.database.is_sqlite:
        pytest.skip("a small table is read whole on PostgreSQL, and rightly so")
    said: list[tuple[str, Any]] = []

    def listen(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    event.listen(store.database.engine, "before_cursor_execute", listen)
    store.queue.heads(1.0)
    event.remove(store.database.engine, "before_cursor_execute", listen)
    ((statement, parameters),) = [one for one in said if "AS heads" in one[0]]
    with store.database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    steps = [row.detail for row in plan]
    line = "(state=? AND priority=? AND project=? AND gpu_count=? AND gpu=? AND location=?)"
    assert any("ix_jobs_line" in step and line in step for step in steps), steps
    assert any("ix_jobs_not_far_back" in step for step in steps), steps
    assert not any("TEMP B-TREE FOR ORDER BY" in step or "RIGHT PART" in step for step in steps), steps
