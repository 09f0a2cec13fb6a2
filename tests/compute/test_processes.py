"""One process and no other; what other systems than Linux do, as far as it can be run on this one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest
from tests.contract.backends import eventually
from tests.contract.little_worker import SLEEPER

from steep.compute.local import processes
from steep.compute.local.processes import belonging, has_mark, is_alive, process, send, this_process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPER, start_new_session=True, env={**os.environ, processes.MARK: "a mark"}) as child:
        yield child
        child.kill()


def test_a_process_is_its_number_and_its_beginning(sleeper: subprocess.Popen[bytes]) -> None:
    one = process(sleeper.pid)
    assert one is not None
    assert is_alive(one)
    assert not is_alive(replace(one, started=one.started + 1))
    time.sleep(0.02)
    assert process(sleeper.pid) == one, "it is the same whenever one asks"


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_signal_hits_nobody_else(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    one = process(sleeper.pid)
    assert one is not None
    assert not send(replace(one, started=one.started - 1), signal.SIGKILL)
    assert sleeper.poll() is None
    assert send(one, signal.SIGKILL)
    eventually(lambda: not is_alive(one), "its end")
    assert sleeper.wait() == -signal.SIGKILL
    assert not send(one, signal.SIGKILL)


def test_one_that_ended_and_was_not_waited_for_does_not_live(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    eventually(lambda: process(sleeper.pid) is None, "its end")
    assert psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE


def test_a_session_belongs_to_its_leader_and_not_to_a_later_one_of_that_number(
    sleeper: subprocess.Popen[bytes],
) -> None:
    leader = process(sleeper.pid)
    assert leader is not None
    assert belonging(leader, "another mark", None) == [leader]
    assert belonging(replace(leader, started=leader.started - 1), "another mark", None) == []
    assert belonging(None, "a mark", None) == [leader]
    assert has_mark(sleeper.pid, "a mark")
    assert this_process() not in belonging(leader, "a mark", None)


def test_other_systems_tell_the_same(sleeper: subprocess.Popen[bytes]) -> None:
    by_number, by_psutil = processes._facts(sleeper.pid), processes._facts_by_psutil(sleeper.pid)
    assert by_number is not None
    assert by_psutil is not None
    assert (by_psutil.group, by_psutil.session) == (by_number.group, by_number.session) == (sleeper.pid, sleeper.pid)
    assert processes._facts_by_psutil(sleeper.pid) == by_psutil
    sleeper.kill()
    sleeper.wait()
    assert processes._facts_by_psutil(sleeper.pid) is None
