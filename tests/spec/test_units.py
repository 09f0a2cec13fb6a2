"""Quantities as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steep.spec.units import (
    format_bytes,
    format_seconds,
    format_tokens,
    parse_budget,
    parse_bytes,
    parse_interval,
    parse_seconds,
    parse_share,
    parse_tokens,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (262144, 262144),
        ("300M tokens", 300_000_000),
        ("300M", 300_000_000),
        ("1.5B tokens", 1_500_000_000),
        ("2k", 2000),
        ("262_144", 262144),
        ("1,000 tokens", 1000),
        ("1 token", 1),
        ("4096", 4096),
    ],
)
def test_tokens(text, tokens):
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["many", "3 M things", "10 min", "-5", True, None, "1.2.3", "M"])
def test_tokens_refused(text):
    with pytest.raises(ValueError, match=r"300M|quantity"):
        parse_tokens(text)


@pytest.mark.parametrize(
    ("text", "share"), [("1%", 0.01), (0.25, 0.25), ("0.5", 0.5), ("100 %", 1.0), (0, 0.0), (1, 1.0)]
)
def test_share(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["120%", 1.5, "ten", "5 percent", True, None, "10 % of it"])
def test_share_refused(text):
    with pytest.raises(ValueError, match=r"%"):
        parse_share(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10 min", 600), ("2 h", 7200), (90, 90), ("1.5h", 5400), ("30 s", 30), ("1 day", 86400)]
)
def test_seconds(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["10 parsecs", "soon", False, None, "1 h 30"])
def test_seconds_refused(text):
    with pytest.raises(ValueError, match=r"10 min"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("4 GB", 4 * 10**9), ("512MiB", 512 * 2**20), (17, 17), ("1.5 kB", 1500), ("3 b", 3)]
)
def test_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["4 GX", True, None, "4 GB of it"])
def test_bytes_refused(text):
    with pytest.raises(ValueError, match=r"4 GB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("2 epochs", (2.0, "epochs")),
        ("1 epoch", (1.0, "epochs")),
        ("0.5 epochs", (0.5, "epochs")),
        ("300M tokens", (3e8, "tokens")),
        ("300M", (3e8, "tokens")),
        ("500 steps", (500.0, "steps")),
        ("2 h", (7200.0, "seconds")),
        ("90 min", (5400.0, "seconds")),
    ],
)
def test_budget(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", [100, "100", "a while", "3 epoch tokens", None])
def test_budget_needs_a_unit(text):
    with pytest.raises(ValueError, match=r"2 epochs|number of tokens"):
        parse_budget(text)


def test_a_bare_interval_counts_steps():
    assert parse_interval(500) == (500.0, "steps")
    assert parse_interval("10 min") == (600.0, "seconds")
    with pytest.raises(ValueError, match="no unit"):
        parse_interval(True)
    for none in (0, -5, "0 min"):
        with pytest.raises(ValueError, match=f"{none!r} is never; write '10 min'"):
            parse_interval(none)


@given(st.integers(1, 10**13))
def test_formatted_tokens_parse_back_to_three_digits(tokens):
    assert parse_tokens(format_tokens(tokens)) == pytest.approx(tokens, rel=6e-3)


@given(st.integers(0, 10**14))
def test_formatted_bytes_parse_back_to_three_digits(size):
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=6e-3)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (42, "42 s"), (59.9, "60 s"), (600, "10 min"), (3725, "1 h 02 min")]
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


def test_a_bare_m_is_neither_minutes_nor_millions() -> None:
    with pytest.raises(ValueError, match="minutes or millions"):
        parse_budget("10 m")
    with pytest.raises(ValueError, match="minutes or millions"):
        parse_interval("10m")
    assert parse_budget("10M") == (10_000_000.0, "tokens")


@pytest.mark.parametrize("parse", [parse_tokens, parse_seconds, parse_bytes, parse_share, parse_budget, parse_interval])
@pytest.mark.parametrize(
    "number", [float("inf"), float("-inf"), float("nan"), pytest.param(10**400, id="huge"), "1e999"]
)
def test_what_cannot_be_counted_is_refused_and_not_stored(parse, number) -> None:
    with pytest.raises(ValueError, match=r"more than can be counted|has no unit|is never|is not a"):
        parse(number)
