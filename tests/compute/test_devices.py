"""Which devices there are, which of them may be lent, and why not."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from tests.compute.driver import GB, Card, Driver

from steep.compute.contract import DeviceState
from steep.compute.local.devices import IDLE_BYTES, Devices, is_of_worker, share_of_cores
from steep.compute.local.locks import take
from steep.compute.local.nvml import SERIOUS_XIDS, Nvml, open_nvml
from steep.spec.errors import InvalidInput, SteepError


def devices_of(place: Path, driver: Driver | None, cpu_slots: int | None = None) -> Devices:
    return Devices(place, cpu_slots, lambda: None if driver is None else Nvml(driver))


def only(devices: Devices) -> DeviceState:
    (state,) = devices.states()
    return state


# ------------------------------------------------------------------------------------------------------------ CPU slots


def test_without_gpus_the_machine_is_one_slot(tmp_path: Path) -> None:
    state = only(devices_of(tmp_path, None))
    assert (state.device.id, state.device.kind, state.usable) == ("cpu-0", "cpu", True)
    assert state.device.memory_bytes == psutil.virtual_memory().total


def test_slots_share_the_machine(tmp_path: Path) -> None:
    states = devices_of(tmp_path, None, cpu_slots=4).states()
    assert [state.device.id for state in states] == ["cpu-0", "cpu-1", "cpu-2", "cpu-3"]
    assert sum(state.device.memory_bytes for state in states) <= psutil.virtual_memory().total


def test_a_gpu_machine_has_slots_only_when_told_to(tmp_path: Path) -> None:
    assert [state.device.kind for state in devices_of(tmp_path, Driver(Card("GPU-a"))).states()] == ["gpu"]
    states = devices_of(tmp_path, Driver(Card("GPU-a")), cpu_slots=1).states()
    assert [state.device.kind for state in states] == ["gpu", "cpu"]


def test_threads_are_the_devices_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert [share_of_cores(devices, 4) for devices in (0, 1, 2, 4)] == [4, 4, 8, 16]
    assert share_of_cores(1, 64) == 1


def test_what_comes_with_chosen_devices(tmp_path: Path) -> None:
    devices = devices_of(tmp_path, Driver(Card("GPU-a"), Card("GPU-b")), cpu_slots=2)
    assert devices.choose(("GPU-b",)).gpus == ("GPU-b",)
    assert devices.choose(("cpu-1",)).gpus == ()
    assert devices.choose(()).gpus == devices.choose(()).locks == ()
    assert len(set(devices.choose(("GPU-a", "GPU-b")).locks)) == 2
    with pytest.raises(InvalidInput, match="GPU-c: there is no such device here"):
        devices.choose(("GPU-a", "GPU-c"))


# ----------------------------------------------------------------------------------------------------------------- GPUs


def test_a_gpu_at_rest_is_usable(tmp_path: Path) -> None:
    state = only(devices_of(tmp_path, Driver(Card("GPU-a", used=IDLE_BYTES))))
    assert (state.device.id, state.device.model, state.device.memory_bytes) == (
        "GPU-a",
        "NVIDIA H100 80GB HBM3",
        80 * GB,
    )
    assert state == DeviceState(state.device, memory_used_bytes=IDLE_BYTES)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ({"ecc_errors": 3}, "It had 3 memory errors that could not be corrected, since it was reset last."),
        ({"remapped": (0, 1, 1, 0)}, "It has faulty memory that a reset will replace."),
        ({"retired_pending": 1}, "It has faulty memory that a reset will replace."),
        ({"remapped": (0, 9, 1, 1)}, "It has faulty memory that could not be replaced."),
        ({"recovery": 1}, "The driver asks for a reset of it, or of the machine, before it is used again."),
        ({"computing": [2**22 + 1]}, "A process that is out of sight (4194305) uses it."),
        ({"used": 3 * GB}, "3.0 GB of its memory are not free yet, though no worker of ours uses it."),
    ],
)
def test_a_gpu_that_must_not_be_used_says_why(tmp_path: Path, trouble: dict[str, object], sentence: str) -> None:
    state = only(devices_of(tmp_path, Driver(Card("GPU-a", **trouble))))  # type: ignore[arg-type]
    assert not state.usable
    assert state.detail.startswith(sentence)
    assert state.detail.endswith(".")


def test_a_process_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    state = only(devices_of(tmp_path, Driver(Card("GPU-a", computing=[os.getpid()]))))
    assert not state.usable
    user = psutil.Process().username()
    assert (
        state.detail == f"Process {os.getpid()} ({psutil.Process().name()} of {user}) uses it, which is none of ours."
    )


def test_memory_that_draws_a_screen_is_no_hindrance(tmp_path: Path) -> None:
    assert only(devices_of(tmp_path, Driver(Card("GPU-a", used=2 * GB, drawing=[3 * GB // 2])))).usable


def test_an_old_card_that_tells_little_is_usable(tmp_path: Path) -> None:
    card = Card("GPU-a", old=True, ecc_errors=7)
    state = only(devices_of(tmp_path, Driver(card)))
    assert (state.usable, state.device.memory_bytes) == (True, 80 * GB)


def test_a_lost_card_is_still_listed_and_comes_back(tmp_path: Path) -> None:
    driver = Driver(Card("GPU-a"), Card("GPU-b", computing=[os.getpid()]))
    devices = devices_of(tmp_path, driver)
    before = devices.states()
    driver.cards[1].lost = True
    lost = devices.states()
    assert [state.device for state in lost] == [state.device for state in before]
    assert (lost[0].usable, lost[1].usable) == (True, False)
    assert lost[1].detail.startswith("It cannot be reached: ")
    driver.cards[1].lost = False
    assert devices.states() == before
    second = driver.cards.pop()
    assert not devices.states()[1].usable, "the driver does not even count it"
    driver.cards.append(second)
    assert devices.states() == before


def test_a_serious_error_of_the_driver_sets_its_card_aside(tmp_path: Path) -> None:
    driver = Driver(Card("GPU-a"), Card("GPU-b"))
    devices = devices_of(tmp_path, driver)
    assert all(state.usable for state in devices.states())
    driver.events += [(driver.cards[0], 31), (driver.cards[1], 79)]  # 31: a program's own mistake
    for _ in range(2):
        assert [state.usable for state in devices.states()] == [True, False]
    assert devices.states()[1].detail == f"The driver met XID 79: {SERIOUS_XIDS[79]}."


def test_parts_of_a_gpu_are_devices(tmp_path: Path) -> None:
    parts = [Card(f"MIG-{one}", "NVIDIA H100 MIG 3g.40gb", 40 * GB) for one in "ab"]
    parts[1].used = 5 * GB
    driver = Driver(Card("GPU-a", parts=parts))
    devices = devices_of(tmp_path, driver)
    assert [(state.device.id, state.usable) for state in devices.states()] == [("MIG-a", True), ("MIG-b", False)]
    with pytest.raises(InvalidInput, match="only one part"):
        devices.choose(("MIG-a", "MIG-b"))
    driver.cards[0].ecc_errors = 1
    assert not any(state.usable for state in devices.states()), "the whole card is faulty"


def test_a_gpu_machine_is_never_taken_for_one_without(tmp_path: Path) -> None:
    driver: Driver | None = Driver(Card("GPU-a"))
    devices = Devices(tmp_path, None, lambda: None if driver is None else Nvml(driver))
    assert only(devices).device.kind == "gpu"
    assert driver is not None
    driver.is_down = True
    with pytest.raises(SteepError, match="the GPUs cannot be read"):
        devices.states()
    driver = None
    with pytest.raises(SteepError, match="the GPUs are gone"):
        devices.states()
    driver = Driver(Card("GPU-a"))
    assert only(devices).usable


def test_a_gpu_that_our_worker_uses_stays_usable_and_strangers_on_it_are_seen(tmp_path: Path) -> None:
    card = Card("GPU-a", used=70 * GB, computing=[os.getpid()])
    handle = f"job/1@{tmp_path}"
    devices = devices_of(tmp_path, Driver(card))
    assert not only(devices).usable
    lock = take(tmp_path / "GPU-a.lock", handle)
    assert not only(devices).usable, "it is lent, but this process is none of the worker's"
    card.computing = [2**22 + 1]  # the worker is in a container of its own
    assert only(devices).usable
    os.close(lock)
    assert only(devices).detail == "A process that is out of sight (4194305) uses it."
    card.computing = []
    assert "not free yet" in only(devices).detail
    card.used = 0
    assert only(devices).usable


@pytest.mark.skipif(open_nvml() is not None, reason="there is an NVIDIA driver")
def test_without_a_driver_there_are_no_gpus() -> None:
    assert open_nvml() is None
    assert not is_of_worker(os.getpid(), "job/1@/nowhere")


@pytest.mark.gpu
def test_the_gpus_of_this_machine_are_read(tmp_path: Path) -> None:
    import torch

    states = Devices(tmp_path, None).states()
    assert len([state for state in states if state.device.kind == "gpu"]) >= torch.cuda.device_count() > 0
    assert all(state.device.memory_bytes > 0 and state.device.id[:4] in ("GPU-", "MIG-") for state in states)
