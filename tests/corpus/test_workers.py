"""Work in other processes, and in this one beside them; when the system ends one of them, that is an error for the user."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steep.corpus.reading import is_harmless
from steep.corpus.sources import SourceFile
from steep.corpus.workers import SMALL_BYTES, Workers
from steep.spec.errors import SteepError

MUCH = SMALL_BYTES + 1


def worked(number: int) -> tuple[int, int]:
    """Which process works on it."""
    time.sleep(0.02)
    return number, os.getpid()


def gated(task: tuple[Path, str, str]) -> int:
    """Waits for one file, if one is named, and makes another."""
    place, awaited, made = task
    until = time.monotonic() + 60
    while awaited and not (place / awaited).exists() and time.monotonic() < until:
        time.sleep(0.01)
    (place / made).touch()
    return os.getpid()


def fails_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_a_process_that_is_ended_is_told_of_by_whatever_waits_for_it() -> None:
    with Workers(2) as workers:
        workers.warm(abs, -1, MUCH)
        assert workers.start(abs, -2)() == 2
        result = workers.start(os._exit, 1)
        with pytest.raises(SteepError, match="was ended from outside"):
            result()
        with pytest.raises(SteepError, match="was ended from outside"):
            workers.start(abs, -3)


@pytest.mark.parametrize("helps", [False, True])
def test_results_come_in_the_order_of_the_tasks_whoever_works_on_them(helps: bool) -> None:
    with Workers(2, helps=helps) as workers:
        workers.start(abs, 0)
        list(workers.map(abs, [1], MUCH))  # what there is now is ready
        done = list(workers.map(worked, range(40), MUCH))
    assert [number for number, _ in done] == list(range(40))
    assert (os.getpid() in {process for _, process in done}) == helps


def test_a_few_large_tasks_are_shared_out_evenly(tmp_path: Path) -> None:
    """The other process has taken the first and is at the second; what is then left is not kept for it."""
    tasks = [(tmp_path, *names) for names in (("", "first"), ("last", "second"), ("first", "third"), ("", "last"))]
    with Workers(2, helps=True) as workers:
        done = list(workers.map(gated, tasks, MUCH))
    assert [process == os.getpid() for process in done] == [False, False, True, True]


@pytest.mark.parametrize("helps", [False, True])
def test_an_error_comes_after_the_results_before_it(helps: bool) -> None:
    with Workers(2, helps=helps) as workers:
        results = workers.map(fails_at_three, range(10), MUCH)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)


@pytest.mark.parametrize("helps", [False, True])
def test_tasks_are_taken_as_they_are_needed(helps: bool) -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    with Workers(2, helps=helps) as workers:
        results = workers.map(worked, tasks(), MUCH)
        for _ in range(20):
            next(results)
        assert taken <= 20 + 8


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.txt", True),
        ("a.py", True),
        ("a.jsonl.zst", True),
        ("a.csv", True),
        ("a.parquet", False),
        ("a.json", False),
        ("a.pdf", False),
        ("a.pdf.gz", False),
        ("a.html", False),
        ("a.zip", False),
        ("a.tgz", False),
        ("a.unknown", False),
    ],
)
def test_what_must_be_taken_apart_is_left_to_other_processes(path: str, expected: bool) -> None:
    assert is_harmless(SourceFile("s", str(Path("/text") / path), 1, "")) == expected
