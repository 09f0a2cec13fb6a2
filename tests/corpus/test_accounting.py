"""The ledger: its sums, and what people are warned of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steep.corpus.accounting import Ledger, SourceSums, warnings


def source(**changes) -> SourceSums:
    """A sound corpus source of a million bytes."""
    sound = SourceSums(
        "corpus", files=10, documents_read=100, documents_kept=90, bytes_read=1_000_000, bytes_changed=10_000,
        bytes_dropped=90_000, bytes_trained=850_000, bytes_held_out=50_000, tokens_trained=212_590, tokens_held_out=12_500,
        tokens_added=90,
    )  # fmt: skip
    return replace(sound, **changes)


def test_what_is_missing_shows():
    assert source().bytes_unexplained == 0
    assert source(bytes_dropped=80_000).bytes_unexplained == 10_000
    assert source(bytes_not_scored=7).bytes_unexplained == -7
    assert source().bytes_per_token == pytest.approx(4.0)
    assert SourceSums("corpus").bytes_per_token is None


def test_totals_are_over_all_sources():
    ledger = Ledger({"one": source(), "two": source(role="general"), "three": source(role="replay")})
    ledger.drop("one", "clean", "too_short", 2, 30)
    ledger.drop("two", "clean", "too_short", 1, 5)
    ledger.drop("two", "dedup", "near_copy", 1, 500)
    report = ledger.report()
    assert report["bytes_read"] == 3_000_000
    assert report["bytes_dropped"] == 3 * 90_000 + 535
    assert report["bytes_unexplained"] == -535
    assert report["documents_dropped"] == 4
    assert list(report["dropped"].items()) == [
        ("dedup: near_copy", {"documents": 1, "text_bytes": 500}),
        ("clean: too_short", {"documents": 3, "text_bytes": 35}),
    ]
    assert report["duplicates"]["near"]["documents"] == 1
    tokens = report["tokens"]
    assert (tokens["trained"], tokens["replay"]) == (212_590, 212_590)
    assert (tokens["held_out_domain"], tokens["held_out_general"]) == (12_500, 25_000)
    assert tokens["of_text"] + tokens["of_document_ends"] == 3 * (212_590 + 12_500)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"bytes_held_out": 0}, "no text is held out"),
        ({"bytes_held_out": 3_000}, "only 3 kB of text are held out"),
        ({"bytes_dropped": 600_000}, "60% of the text of docs was dropped"),
        ({"tokens_trained": 600_000}, "suits docs poorly: 1.47 bytes per token"),
        ({"tokens_trained": 0}, "nothing of docs is left"),
    ],
)
def test_warnings(changes, words):
    found = warnings(Ledger({"docs": source(**changes), "other": source(bytes_held_out=0)}), {})
    if words is None:
        assert not found
    else:
        assert any(words in each for each in found), found


def test_a_drowned_source_is_named_unless_its_weight_lifts_it():
    ledger = Ledger({"docs": source(), "few": source(tokens_trained=500)})
    assert any("few is only 0.23%" in each for each in warnings(ledger, {"docs": 1.0, "few": 1.0}))
    assert not warnings(ledger, {"docs": 1.0, "few": 10.0})


def test_poor_fertility_of_general_text_is_nobodys_worry():
    assert not warnings(Ledger({"docs": source(), "zh": source(role="general", tokens_trained=600_000)}), {})
