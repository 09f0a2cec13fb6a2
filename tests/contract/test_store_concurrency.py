"""Many at once: threads, processes, some of them killed. No device lent twice, no two attempts of a job, no event missed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from tests.contract.databases import Databases
from tests.contract.makers import begun, check_whole, contents, gpus, rows, spec, state, submitted
from tests.contract.store_user import act_in_threads

from steep.server.store.database import Transaction
from steep.server.store.jobs import Idempotency
from steep.server.store.store import Store
from steep.spec.api.projects import ProjectRequest, Quota
from steep.spec.errors import Conflict, ServerUnavailable


def at_once(*tasks: Callable[[], Any]) -> list[Any]:
    """What tasks return when they begin at the same moment, or the conflict that they met."""
    gate = threading.Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return task()
        except Conflict as conflict:
            return conflict

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))


def num_conflicts(answers: list[Any]) -> int:
    return sum(isinstance(answer, Conflict) for answer in answers)


def test_of_many_that_want_the_same_device_one_gets_it(store: Store) -> None:
    for turn in range(4):
        jobs = [submitted(store, name=f"job-{turn}-{number}") for number in range(5)]
        answers = at_once(*(partial(begun, store, job.id, 1.0, gpus(turn, 10 + turn)) for job in jobs))
        assert num_conflicts(answers) == 4
        check_whole(store)


def test_of_many_that_begin_the_same_job_one_does(store: Store) -> None:
    for turn in range(4):
        job = submitted(store)
        answers = at_once(*(partial(begun, store, job.id, 1.0, gpus(turn * 5 + n)) for n in range(5)))
        assert num_conflicts(answers) == 4
        check_whole(store)


def test_a_quota_holds_against_many_that_begin_at_once(store: Store) -> None:
    store.projects.create(ProjectRequest(name="docs", quota=Quota(gpus=2)), 0.0)
    jobs = [submitted(store, project="docs") for _ in range(6)]
    assert num_conflicts(at_once(*(partial(begun, store, job.id, 1.0, gpus(n)) for n, job in enumerate(jobs)))) == 4
    assert store.projects.get("docs").gpus_in_use == 2


def test_the_same_request_many_times_at_once_is_one_job(store: Store) -> None:
    answers = at_once(*[lambda: store.jobs.submit(spec(), 1.0, idempotency_key=Idempotency("k", "h"))[0].id] * 6)
    assert len(set(answers)) == 1
    assert len(rows(store, "SELECT id FROM jobs")) == 1


def test_what_many_do_at_random_leaves_everything_whole_at_every_moment(store: Store) -> None:
    done = threading.Event()
    looked = 0

    def look() -> None:
        nonlocal looked
        while not done.is_set():
            check_whole(store)
            looked += 1

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(look)
        try:
            users = act_in_threads(store, range(4), 40)
        finally:
            done.set()
        watching.result()
    check_whole(store)
    assert looked > 3
    assert sum(user.begun for user in users) > 3
    assert sum(user.refused for user in users) > 3, "nobody was in another's way"


def test_a_reader_of_events_misses_none(store: Store) -> None:
    """Writers of which some are slow to commit; a reader that goes on from the last number it saw, as consoles do."""
    done = threading.Event()
    seen: list[int] = []
    slow = Transaction.flush

    def flush_slowly(transaction: Transaction) -> None:
        slow(transaction)
        time.sleep(0.002 * (threading.get_ident() // 64 % 3))

    def read() -> None:
        while True:
            last_look = done.is_set()
            seen.extend(event.id for event in store.events.after(seen[-1] if seen else 0, limit=7))
            if last_look and len(seen) == store.events.last_id():
                return

    reader = threading.Thread(target=read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transaction, "flush", flush_slowly)
        reader.start()
        at_once(*[lambda: [submitted(store) for _ in range(15)]] * 5)
    done.set()
    reader.join(timeout=30)
    assert seen == list(range(1, 151))


def test_users_in_many_processes_one_of_them_killed_leave_everything_whole(databases: Databases) -> None:
    url = databases.new()
    store = Store.open(url, migrate=False)
    command = [sys.executable, "-m", "tests.contract.store_user", url]
    users = [
        subprocess.Popen([*command, str(seed), str(count)], stdout=subprocess.PIPE)
        for seed, count in ((10, 30), (20, 100_000))
    ]
    for user in users:
        assert user.stdout is not None
        user.stdout.readline()
    for user in users[1:]:
        time.sleep(0.4)
        user.kill()
        check_whole(store)
    assert users[0].wait(timeout=60) == 0
    for user in users:
        user.wait()
        user.stdout.close()  # type: ignore[union-attr]
    check_whole(store)
    assert len(rows(store, "SELECT job_id FROM attempts")) > 3
    submitted(store)
    store.close()


HALFWAY = """
import sys, time
from steep.server.store.database import Transaction
from steep.server.store.store import Store
from tests.contract.makers import begun, gpus

def stop_here(transaction):
    print("halfway", flush=True)
    time.sleep(600)

Transaction.flush = stop_here
begun(Store.open(sys.argv[1], migrate=False), sys.argv[2], 1.0, gpus(0, 1))
"""


def test_who_is_killed_in_the_middle_of_a_transaction_has_done_nothing_and_stops_nobody(databases: Databases) -> None:
    url = databases.new()
    store = Store.open(url, migrate=False)
    job = submitted(store)
    before = contents(store)
    other = subprocess.Popen([sys.executable, "-c", HALFWAY, url, job.id], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"halfway\n"
    assert contents(store) == before, "others see what is not committed"
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert contents(store) == before
    begun(store, job.id, 2.0, gpus(0, 1))
    assert state(store, job.id)[0] == "provisioning"
    check_whole(store)
    store.close()


def test_connections_that_are_cut_are_replaced_and_what_was_half_done_is_undone(postgresql: Databases) -> None:
    """As when PostgreSQL is started again, with a store that stays open meanwhile."""
    url = postgresql.new()
    store, other = Store.open(url, migrate=False), Store.open(postgresql.url("postgres"), migrate=False)
    name = store.database.engine.url.database
    cut = f"SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity WHERE datname = '{name}'"
    job = submitted(store)
    before = contents(store)
    slow = Transaction.flush

    def flush_and_be_cut(transaction: Transaction) -> None:
        slow(transaction)
        assert rows(other, cut)[0].n > 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transaction, "flush", flush_and_be_cut)
        with pytest.raises(ServerUnavailable):
            begun(store, job.id)
    assert contents(store) == before
    begun(store, job.id)
    check_whole(store)
    store.close()
    other.close()
