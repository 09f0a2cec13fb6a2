"""Placement: who gets devices, who waits and why, who yields; and what holds in every snapshot."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from steep.server.placement import Decisions, place
from steep.server.waiting import (
    OfferedDevice,
    ProjectUse,
    RunningJob,
    Snapshot,
    WaitingJob,
    need_of,
    queue_order,
    suiting,
)
from steep.spec.states import REASONS, Reason, State

NOW = 10_000.0


def waiting(name: str, gpus: int | None = 1, **more: Any) -> WaitingJob:
    values = {"project": "p", "priority": 0, "gpu": None, "location": None, "queued_at": NOW - 1, "not_before": 0.0}
    return WaitingJob(id=name, gpu_count=gpus, **{**values, **more})


def running(name: str, *numbers: int, place_name: str = "here", **more: Any) -> RunningJob:
    values = {"project": "p", "priority": 0, "started_at": NOW - 100, "stopping": False}
    devices = tuple(("local", f"{place_name}-{number}") for number in numbers)
    return RunningJob(id=name, devices=devices, gpus=len(numbers), **{**values, **more})


def machine(count: int, place_name: str = "here", model: str = "NVIDIA H100 80GB", **more: Any) -> list[OfferedDevice]:
    values = {"kind": "gpu", "model": model, "location": place_name, "usable": True, **more}
    return [OfferedDevice(backend="local", id=f"{place_name}-{number}", **values) for number in range(count)]


def decide(
    jobs: list[WaitingJob],
    devices: list[OfferedDevice],
    held: list[RunningJob] | None = None,
    projects: list[ProjectUse] | None = None,
    patience_seconds: float = 300.0,
) -> Decisions:
    return place(Snapshot(NOW, jobs, held or [], devices, projects or [ProjectUse("p")], patience_seconds))


def placed(decisions: Decisions) -> dict[str, tuple[str, ...]]:
    return {one.job_id: one.devices for one in decisions.placements}


def why(decisions: Decisions) -> dict[str, str]:
    return {one.job_id: one.detail for one in decisions.waits}


# ---------------------------------------------------------------------------------------------------------------- order


def test_the_oldest_goes_first_and_higher_priority_before_it():
    jobs = [waiting("young", queued_at=5), waiting("old", queued_at=1), waiting("urgent", priority=1, queued_at=9)]
    assert placed(decide(jobs, machine(2))) == {"urgent": ("here-0",), "old": ("here-1",)}


def test_projects_take_turns_by_their_shares():
    jobs = [waiting(f"a{n}", project="a", queued_at=n) for n in range(9)]
    jobs += [waiting(f"b{n}", project="b", queued_at=100 + n) for n in range(9)]
    shares = [ProjectUse("a", 2.0), ProjectUse("b", 1.0)]
    first = [job.project for job in queue_order(Snapshot(NOW, jobs, [], [], shares))][:9]
    assert Counter(first) == {"a": 6, "b": 3}
    held = [running("r", 0, 1, 2, 3, project="a")]
    assert list(placed(decide(jobs, machine(6), held, shares))) == ["b0", "b1"], "b uses less for its share"


def test_jobs_that_back_off_are_left_alone():
    early = waiting("early", not_before=NOW + 5)
    lost_clock = waiting("lost", not_before=NOW + 5, since=NOW + 4)
    decisions = decide([early, lost_clock], machine(1))
    assert placed(decisions) == {"lost": ("here-0",)}
    assert decisions.waits == []


# ----------------------------------------------------------------------------------------------------------------- gangs


def test_a_gang_gets_all_its_devices_in_one_place_or_none():
    devices = machine(2, "a") + machine(3, "b")
    assert placed(decide([waiting("gang", 4)], devices)) == {}
    assert placed(decide([waiting("gang", 3)], devices)) == {"gang": ("b-0", "b-1", "b-2")}
    assert placed(decide([waiting("pair", 2)], devices)) == {"pair": ("a-0", "a-1")}, "large room stays whole"


def test_a_model_and_a_location_are_kept():
    devices = machine(1, "us") + machine(1, "eu", "NVIDIA A100") + machine(1, "asia", usable=False)
    assert placed(decide([waiting("j", gpu="h100")], devices)) == {"j": ("us-0",)}
    assert placed(decide([waiting("j", location="eu")], devices)) == {"j": ("eu-0",)}
    assert placed(decide([waiting("j", gpu="H100", location="eu")], devices)) == {}
    assert placed(decide([waiting("j", location="asia")], devices)) == {}


def test_without_gpus_a_job_takes_a_cpu_slot_unless_it_asks_for_gpus():
    slot = machine(2, "cpu", "AMD", kind="cpu")
    assert placed(decide([waiting("any", None), waiting("none", 0)], slot)) == {"any": ("cpu-0",), "none": ("cpu-1",)}
    assert placed(decide([waiting("gpu", 1), waiting("h", None, gpu="H100")], slot)) == {}
    assert placed(decide([waiting("any", None)], slot + machine(1))) == {"any": ("here-0",)}


def test_sentences_say_what_for_and_how_many_are_ahead():
    jobs = [waiting(f"j{n:03}", 2, gpu="H100", location="eu", queued_at=n) for n in range(103)]
    found = why(decide(jobs, machine(2, "eu"), [running("r", 0, place_name="eu")]))
    assert found["j000"] == "waiting for 2 x H100 in eu; next in the queue"
    assert found["j001"] == "waiting for 2 x H100 in eu; 1 job ahead"
    assert found["j003"] == "waiting for 2 x H100 in eu; 3 jobs ahead"
    assert found["j100"] == "waiting for 2 x H100 in eu; 100 jobs ahead"
    assert found["j101"] == found["j102"] == "waiting for 2 x H100 in eu; more than 100 jobs ahead"


def test_what_no_wait_will_bring_is_said():
    found = why(decide([waiting("a", 1, gpu="B200"), waiting("b", 9)], machine(8)))
    assert found["a"] == "waiting for 1 x B200; there is none here, only NVIDIA H100 80GB"
    assert found["b"] == "waiting for 9 x GPU; there are 8 in one place at most"
    assert why(decide([waiting("a")], []))["a"] == "waiting for 1 x GPU; there is none here, only nothing"


# ---------------------------------------------------------------------------------------------------------------- quotas


def test_a_project_keeps_its_quota_and_others_do_not_wait_for_it():
    jobs = [waiting("a1", 2, project="docs"), waiting("a2", 3, project="docs"), waiting("b", 1)]
    projects = [ProjectUse("docs", quota_gpus=4), ProjectUse("p")]
    decisions = decide(jobs, machine(8), [running("r", 7, 6, project="docs")], projects)
    assert set(placed(decisions)) == {"a1", "b"}
    assert why(decisions) == {"a2": "project docs uses 4 of its 4 GPUs"}
    assert decisions.waits[0].reason is Reason.WAITING_FOR_QUOTA


def test_quotas_of_jobs_and_of_storage_are_kept():
    full = ProjectUse("p", quota_stored_bytes=10**9, stored_bytes=10**9)
    assert why(decide([waiting("a")], machine(1), None, [full])) == {"a": "project p has filled its 1 GB of storage"}
    one = ProjectUse("p", quota_jobs=1)
    decisions = decide([waiting("a"), waiting("b")], machine(2), None, [one])
    assert why(decisions) == {"b": "project p runs 1 of its 1 jobs"}
    never = decide([waiting("a", 5)], machine(8), None, [ProjectUse("p", quota_gpus=4)])
    assert why(never) == {"a": "asks for 5 GPUs, and project p may use 4"}


# ------------------------------------------------------------------------------------------------------------ starvation


def test_small_jobs_may_pass_a_large_one_that_has_just_come():
    jobs = [waiting("large", 4, queued_at=NOW - 10), waiting("small", 1, queued_at=NOW - 5)]
    assert placed(decide(jobs, machine(4), [running("r", 0)])) == {"small": ("here-1",)}


def test_what_gets_free_is_kept_for_a_large_job_that_has_waited_long_enough():
    jobs = [waiting("large", 4, queued_at=NOW - 301), waiting("small", 1, queued_at=NOW - 5)]
    elsewhere = machine(1, "there")
    decisions = decide(jobs, machine(4) + elsewhere, [running("r", 0)])
    assert placed(decisions) == {"small": ("there-0",)}, "only where the large one could be"
    assert placed(decide(jobs, machine(4))) == {"large": ("here-0", "here-1", "here-2", "here-3")}


def test_a_large_job_is_not_starved_by_a_stream_of_small_ones():
    """A machine of 4 on which small jobs come without end, each for 2 rounds: the large one runs soon after its patience."""
    clock, number, held = 0.0, 0, {running("first", 0): 2}
    queue = [waiting("large", 4, queued_at=0.0)]
    while clock < 2000.0:
        held = {job: left - 1 for job, left in held.items() if left > 1}
        queue += [waiting(f"small-{number + extra}", 1, queued_at=clock) for extra in range(3)]
        number += 3
        snapshot = Snapshot(clock, queue, list(held), machine(4), [ProjectUse("p")], 300.0)
        for one in place(snapshot).placements:
            if one.job_id == "large":
                assert 300.0 <= clock <= 360.0
                return
            queue = [job for job in queue if job.id != one.job_id]
            held[RunningJob(one.job_id, "p", 0, tuple(("local", d) for d in one.devices), 1, clock, False)] = 2
        clock += 20.0
    raise AssertionError("the large job never ran")


# ------------------------------------------------------------------------------------------------------------ preemption


def test_lower_priorities_yield_when_that_is_enough_the_least_important_and_the_youngest_first():
    held = [
        running("important", 0, priority=5),
        running("old", 1, priority=1, started_at=1),
        running("young", 2, priority=1, started_at=2),
        running("least", 3, priority=0, started_at=0),
    ]
    decisions = decide([waiting("urgent", 2, priority=5)], machine(4), held)
    assert {one.job_id for one in decisions.preemptions} == {"least", "young"}
    assert all(one.for_job_id == "urgent" and "priority is 5" in one.detail for one in decisions.preemptions)
    assert placed(decisions) == {}
    assert why(decisions) == {"urgent": "waiting for 2 x GPU; next in the queue"}


def test_who_yields_to_another_project_learns_nothing_of_its_job():
    projects = [ProjectUse("p"), ProjectUse("law")]
    decisions = decide([waiting("secret", priority=5, project="law")], machine(1), [running("low", 0)], projects)
    (one,) = decisions.preemptions
    assert (one.job_id, one.for_job_id) == ("low", "secret")
    assert one.detail == "yields to a job of another project, whose priority is higher"


def test_nobody_yields_to_an_equal_or_in_vain():
    assert decide([waiting("same", 1)], machine(1), [running("r", 0)]).preemptions == []
    held = [running("low", 0), running("high", 1, priority=9)]
    assert decide([waiting("urgent", 2, priority=5)], machine(2), held).preemptions == []
    unusable = machine(1) + [one._replace(id="here-1", usable=False) for one in machine(1)]
    assert decide([waiting("urgent", 2, priority=5)], unusable, [running("low", 0)]).preemptions == []


def test_no_more_yield_than_are_needed():
    held = [running("one", 0, priority=0), running("three", 1, 2, 3, priority=1)]
    decisions = decide([waiting("urgent", 3, priority=5)], machine(4), held)
    assert [one.job_id for one in decisions.preemptions] == ["three"], "the other one would not be needed as well"


def test_while_jobs_stop_nobody_else_is_asked_and_what_they_free_is_kept():
    held = [running("stopping", 0, stopping=True), running("low", 1)]
    jobs = [waiting("urgent", 1, priority=5), waiting("next", 1, priority=4), waiting("small", 1)]
    decisions = decide(jobs, machine(2), held)
    assert [(one.job_id, one.for_job_id) for one in decisions.preemptions] == [("low", "next")]
    assert placed(decisions) == {}
    free = machine(3)
    assert placed(decide([waiting("urgent", 2, priority=5), waiting("small")], free[:2], held[:1])) == {}


# ----------------------------------------------------------------------------------------------------------- every snapshot


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    rng = random.Random(draw(st.integers(0, 2**32)))
    devices = [
        OfferedDevice(
            "local",
            f"d{n}",
            rng.choice(["gpu", "gpu", "gpu", "cpu"]),
            rng.choice(["H100", "A100"]),
            place_name,
            rng.random() < 0.9,
        )
        for n in range(rng.randrange(13))
        for place_name in [rng.choice(["eu", "us"])]
    ]
    left = list(devices)
    rng.shuffle(left)
    held = []
    while left and rng.random() < 0.6:
        mine = [left.pop() for _ in range(min(len(left), rng.choice([1, 1, 2, 4])))]
        held.append(
            RunningJob(
                f"r{len(held)}",
                rng.choice("abc"),
                rng.randrange(-1, 3),
                tuple((one.backend, one.id) for one in mine),
                sum(one.kind == "gpu" for one in mine),
                rng.random() * NOW,
                rng.random() < 0.2,
            )
        )
    jobs = [
        waiting(
            f"w{n}",
            rng.choice([None, 0, 1, 1, 2, 4, 8]),
            project=rng.choice("abc"),
            priority=rng.randrange(-1, 4),
            gpu=rng.choice([None, None, "h100"]),
            location=rng.choice([None, None, "eu"]),
            queued_at=NOW - rng.choice([1, 1000]),
            not_before=rng.choice([0.0, 0.0, NOW + 9]),
        )
        for n in range(rng.randrange(12))
    ]
    quota = lambda limit: rng.choice([None, rng.randrange(limit)])  # noqa: E731
    projects = [ProjectUse(name, rng.choice([0.5, 1.0, 3.0]), quota(8), quota(6)) for name in "abc"]
    return Snapshot(NOW, jobs, held, devices, projects)


@settings(max_examples=300, deadline=None)
@given(snapshots())
def test_what_holds_in_every_snapshot(snapshot: Snapshot) -> None:
    decisions = place(snapshot)
    assert decisions == place(snapshot), "the same snapshot is decided in the same way"
    devices = {(one.backend, one.id): one for one in snapshot.devices}
    jobs = {job.id: job for job in snapshot.waiting}
    held = {job.id: job for job in snapshot.running}
    lent = [device for job in snapshot.running for device in job.devices]
    for one in decisions.placements:
        job, mine = jobs[one.job_id], [devices[(one.backend, name)] for name in one.devices]
        wanted = 1 if job.gpu_count in (None, 0) else job.gpu_count
        assert len(mine) == wanted, "all or none"
        assert all(device.usable for device in mine)
        assert len({(device.backend, device.location) for device in mine}) == 1
        assert job.gpu is None or job.gpu_count == 0 or all(job.gpu in device.model.lower() for device in mine)
        assert job.location in (None, mine[0].location)
        assert job.gpu_count in (None, 0) or all(device.kind == "gpu" for device in mine)
        assert job.not_before <= NOW
        lent += [(one.backend, name) for name in one.devices]
    assert len(lent) == len(set(lent)), "a device is lent once"
    for project in snapshot.projects:
        new = [one for one in decisions.placements if jobs[one.job_id].project == project.name]
        old = [job for job in snapshot.running if job.project == project.name]
        gpus = sum(devices[(one.backend, name)].kind == "gpu" for one in new for name in one.devices)
        if new and project.quota_jobs is not None:
            assert len(new) + len(old) <= project.quota_jobs
        if gpus and project.quota_gpus is not None:
            assert gpus + sum(job.gpus for job in old) <= project.quota_gpus
    ready = {job.id for job in snapshot.waiting if job.not_before <= NOW}
    done = [one.job_id for one in decisions.placements] + [one.job_id for one in decisions.waits]
    assert sorted(done) == sorted(ready), "each is placed or told why not, once"
    assert all(one.reason in REASONS[State.QUEUED] and one.detail for one in decisions.waits)
    victims = [one.job_id for one in decisions.preemptions]
    assert len(victims) == len(set(victims))
    for one in decisions.preemptions:
        assert held[one.job_id].priority < jobs[one.for_job_id].priority
        assert not held[one.job_id].stopping
        freed = sum(
            len(held[each.job_id].devices) for each in decisions.preemptions if each.for_job_id == one.for_job_id
        )
        assert freed >= 1


@settings(max_examples=100, deadline=None)
@given(snapshots())
def test_preemption_is_enough_once_those_who_were_asked_have_stopped(snapshot: Snapshot) -> None:
    """When all who were asked to yield are gone, everybody they yielded to is placed; where one who takes any device and one who
    takes few of them wait for the same, the first of them at least."""
    decisions = place(snapshot)
    if not decisions.preemptions:
        return
    asked = {one.job_id for one in decisions.preemptions}
    begun = {one.job_id for one in decisions.placements}
    left = [job for job in snapshot.running if job.id not in asked and not job.stopping]
    left += [
        RunningJob(
            one.job_id, "z", 99, tuple((one.backend, name) for name in one.devices), len(one.devices), NOW, False
        )
        for one in decisions.placements
    ]
    waiting_on = [
        job
        for job in snapshot.waiting
        if job.id not in begun and job.id in {one.for_job_id for one in decisions.preemptions}
    ]
    usable = [one._replace(usable=True) for one in snapshot.devices]
    free = Snapshot(NOW, waiting_on, left, usable, [])
    placed = {one.job_id for one in place(free).placements}
    assert queue_order(free)[0].id in placed
    has_gpus = any(one.kind == "gpu" for one in usable)
    suited = {frozenset(suiting(usable, need_of(job, has_gpus))) for job in waiting_on}
    devices = [frozenset(number for _, numbers in places for number in numbers) for places in suited]
    if all(one == other or not one & other for one, other in combinations(devices, 2)):
        assert placed == {job.id for job in waiting_on}
