"""Limits: warned of at 80 %, stopped at 100 %, each once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steep.server.limits import Prices, Usage, check, is_reached
from steep.spec.events import EventKind
from steep.spec.service import Limits


def told(limits: Limits, usage: Usage, *marks: str) -> list[tuple[str, str]]:
    return [(each.level, each.mark) for each in check(limits, usage, marks)]


def test_a_limit_warns_at_four_fifths_and_stops_at_the_whole():
    limits = Limits(cost=10)
    assert told(limits, Usage(cost=7.99)) == []
    assert told(limits, Usage(cost=8.0)) == [("warn", "cost:warn:10.0")]
    assert told(limits, Usage(cost=9.99), "cost:warn:10.0") == []
    assert told(limits, Usage(cost=10.0), "cost:warn:10.0") == [("stop", "cost:stop:10.0")]
    assert told(limits, Usage(cost=99.0), "cost:stop:10.0") == []


def test_a_limit_that_is_raised_counts_anew():
    told_before = ("cost:warn:10.0", "cost:stop:10.0")
    assert told(Limits(cost=20), Usage(cost=11.0), *told_before) == []
    assert told(Limits(cost=20), Usage(cost=16.0), *told_before) == [("warn", "cost:warn:20.0")]


def test_stops_come_first_and_sentences_say_how_much():
    limits = Limits(cost=10, time=3600, tokens=2_000_000)
    found = check(limits, Usage(cost=8.5, time_seconds=3000, tokens=2e6), currency="EUR")
    assert [(each.level, each.kind) for each in found] == [
        ("stop", EventKind.LIMIT_REACHED),
        ("warn", EventKind.LIMIT_WARNED),
        ("warn", EventKind.LIMIT_WARNED),
    ]
    assert [each.message for each in found] == [
        "the job has reached its limit of 2M tokens",
        "the job has used 8.50 EUR of its limit of 10.00 EUR (85%)",
        "the job has used 50 min of its limit of 1 h 00 min (83%)",
    ]


def test_what_has_no_limit_is_never_told():
    assert check(Limits(), Usage(1e12, 1e12, 1e15)) == []


def test_gpus_cost_what_the_closest_name_in_the_table_says():
    prices = Prices({"H100": 3.6, "H100 PCIe": 1.8}, other_gpu_hour=0.36)
    assert prices.per_second(["NVIDIA H100 80GB HBM3"] * 2) == pytest.approx(0.002)
    assert prices.per_second(["nvidia h100 pcie"]) == pytest.approx(0.0005)
    assert prices.per_second(["Tesla T4"]) == pytest.approx(0.0001)
    assert prices.per_second([]) == 0.0


amounts = st.floats(0, 1e9)


@given(amounts.filter(bool), st.lists(amounts, max_size=20))
def test_each_is_told_once_however_use_goes(limit, course):
    limits, marks = Limits(tokens=None, cost=limit), []
    for cost in sorted(course):
        marks += [each.mark for each in check(limits, Usage(cost=cost), marks)]
        assert is_reached(limits, Usage(cost=cost)) == (cost >= limit)
        assert (f"cost:stop:{limits.cost!r}" in marks) == (cost >= limit)
    assert len(marks) == len(set(marks)) <= 2
