"""Ten faults of ten kinds, and nothing is lost. `make chaos` has two hundred of all kinds, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.chaos.faults import FAULTS
from tests.chaos.plan import TRANSITIONS, plan
from tests.chaos.run import run
from tests.chaos.worker import enter, entries
from tests.chaos.world import wait_until

BRIEF = (
    "kill server", "crash", "kill worker", "kill keeper", "database gone", "store gone", "full disk", "answers lost",
    "requests twice", "clock jump",
)  # fmt: skip
SEED = 17


@pytest.mark.slow
def test_ten_faults_and_nothing_is_lost(tmp_path: Path) -> None:
    said: list[str] = []
    report = run(
        "sqlite", SEED, 10, tmp_path, steps=40, only=BRIEF, longest_pause_seconds=0.6, living=2, tell=said.append
    )
    log = (tmp_path / "server-0" / "server.log").read_text()
    assert report.wrong == [], "\n".join([*said, log[-5000:]])
    assert report.struck.total() == 10
    assert report.jobs.get("succeeded", 0) >= 2
    assert report.attempts > report.jobs["succeeded"]  # some of them had to begin again


def test_the_same_seed_plans_the_same() -> None:
    kinds = list(FAULTS)
    blows = plan(17, 200, kinds)
    assert blows == plan(17, 200, kinds)
    assert blows != plan(18, 200, kinds)
    often = [sum(blow.kind == kind for blow in blows) for kind in kinds]
    assert max(often) - min(often) <= 1
    crashes = plan(17, 2 * len(TRANSITIONS), ["crash"])
    assert len({(blow.transition, blow.is_late) for blow in crashes}) == 2 * len(TRANSITIONS)


def test_who_begins_beside_another_is_seen(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = f"from pathlib import Path; from tests.chaos.worker import enter; enter(Path({str(journal)!r}), 'job', 1); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as other:
        assert wait_until(lambda: entries(journal), 30)
        enter(journal, "another", 1)
        enter(journal, "job", 2)
        assert other.stdin is not None
        other.stdin.close()
        other.wait(30)
    enter(journal, "job", 3)
    assert [one.beside for one in entries(journal)] == [(), (), (1,), (2,)]
