"""When jobs will begin, as far as can be said."""

from __future__ import annotations

from tests.server.test_placement import NOW, machine, running, waiting

from steep.server.estimates import estimate_starts
from steep.server.waiting import ProjectUse, Snapshot


def snapshot(jobs, devices, held=()):
    return Snapshot(NOW, jobs, held, devices, [ProjectUse("p")])


def test_a_job_begins_when_enough_devices_of_one_place_are_free():
    held = [running("one", 0), running("two", 1)]
    ends = {"one": NOW + 50, "two": NOW + 80}
    jobs = [waiting("pair", 2)]
    assert estimate_starts(snapshot(jobs, machine(2), held), ends) == {"pair": NOW + 80}
    assert estimate_starts(snapshot(jobs, machine(2) + machine(1, "there"), held), ends) == {"pair": NOW + 80}
    assert estimate_starts(snapshot([waiting("single")], machine(2), held), ends) == {"single": NOW + 50}
    assert estimate_starts(snapshot([waiting("now")], machine(3), held), ends) == {"now": NOW}


def test_jobs_ahead_take_what_gets_free_first():
    held = [running("r", 0)]
    jobs = [waiting("first", queued_at=1), waiting("second", queued_at=2), waiting("third", queued_at=3)]
    ends = {"r": NOW + 10}
    assert estimate_starts(snapshot(jobs, machine(1), held), ends) == {"first": NOW + 10}
    assert estimate_starts(snapshot(jobs, machine(1), held), ends, typical_seconds=100) == {
        "first": NOW + 10,
        "second": NOW + 110,
        "third": NOW + 210,
    }
    assert list(estimate_starts(snapshot(jobs, machine(1), held), ends, 100, limit=2)) == ["first", "second"]


def test_what_nobody_knows_is_not_estimated():
    held = [running("r", 0)]
    assert estimate_starts(snapshot([waiting("j")], machine(1), held), {}) == {}
    assert estimate_starts(snapshot([waiting("j", gpu="B200")], machine(1)), {}) == {}
    assert estimate_starts(snapshot([waiting("j")], machine(1, usable=False)), {}) == {}
    late = {"r": NOW - 99}
    assert estimate_starts(snapshot([waiting("j")], machine(1), held), late) == {"j": NOW}, "it is late already"


def test_a_job_that_waits_for_quota_has_no_estimate():
    jobs = [waiting("rich"), waiting("poor")._replace(reason="waiting_for_quota")]
    assert estimate_starts(snapshot(jobs, machine(2)), {}) == {"rich": NOW}
