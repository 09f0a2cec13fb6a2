"""Pieces are the text, whole, in order, none too large, cut where a reader would."""

from __future__ import annotations

import pydoc_data.topics as topics

import pytest

from steep.artifacts.pieces import cut_pieces

TEXT = "\n".join(topics.topics.values())[:300_000]


@pytest.mark.parametrize("text", [TEXT, "ä€𝄞" * 9000, "word " * 5000, "x" * 20_001, "short", "", "a\ud800b" * 4000])
def test_pieces_are_the_text_and_none_is_too_large(text: str) -> None:
    pieces = cut_pieces(text)
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode("utf-8", "surrogatepass")) <= 8000 for piece in pieces)


def test_pieces_end_at_paragraphs_and_are_not_small() -> None:
    pieces = cut_pieces(TEXT)
    assert sum(piece.endswith("\n\n") for piece in pieces[:-1]) > 0.9 * (len(pieces) - 1)
    assert min(len(piece.encode()) for piece in pieces[:-1]) >= 4000


def test_without_paragraphs_pieces_end_at_lines_then_at_words() -> None:
    assert cut_pieces("one two\nthree four five", 14) == ["one two\n", "three four ", "five"]


def test_a_character_is_never_cut() -> None:
    assert cut_pieces("€" * 5, 8) == ["€€", "€€", "€"]
