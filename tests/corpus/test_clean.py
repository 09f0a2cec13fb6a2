# ruff: noqa: RUF001 - letters that look like others are what is tested
"""Cleaning: what is mended, what is left alone, what is dropped and why."""

from __future__ import annotations

import pytest

from steep.corpus import clean as cleaning_steps
from steep.corpus.clean import REASONS, alphabetic, clean, fix_encoding, mend, normalize, only_mended, repeated_lines
from steep.corpus.document import Document, Drop, make_document
from steep.corpus.language import language_of, languages_of
from steep.spec.job import CLEANING_PRESETS, Cleaning

STANDARD = CLEANING_PRESETS["standard"]
PROSE = "A decorator is a function that takes another function and returns a third one, often the same.\n"
CHINESE = "修饰器是一个函数，它接收另一个函数并返回第三个函数，通常是同一个。\n" * 3
HINDI = "सज्जाकार एक फलन है जो दूसरे फलन को लेता है और तीसरा लौटाता है।\n"


def document(text: str) -> Document:
    return make_document(text, "docs", "a.txt")


@pytest.mark.parametrize(
    ("damaged", "mended"),
    [
        ("schÃ¶n und gut", "schön und gut"),
        ("first\nHe donâ€™t care\nlast", "first\nHe don’t care\nlast"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
        ("nul\x00 and bell\x07", "nul and bell"),
        ("\ufeffmark", "mark"),
        ("\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_damage_is_mended(damaged, mended):
    assert fix_encoding(damaged) == mended


@pytest.mark.parametrize(
    "text",
    [
        "naïve café Ägypten",
        "“quoted” – fine…",
        "привет “мир”",
        "日本語、はい。",
        "&amp; stays",
        "ﬁne ligature",
        "ＷＩＤＥ",
        "a\tb\x0c",
    ],
)
def test_sound_text_is_left_alone(text):
    assert fix_encoding(text) == text


def test_only_suspect_lines_are_looked_into(monkeypatch):
    seen: list[str] = []
    monkeypatch.setattr(cleaning_steps, "_fix_line", lambda line: seen.append(line) or line)
    fix_encoding("good line\nbad \x00 line\nfine: é\n")
    assert seen == ["bad \x00 line"]


def test_normalize_is_stable():
    text = "e\u0301t\u00e9  \r\nline\t\rnext \n\n  indented\n\n"
    once = normalize(text)
    assert once == "été\nline\nnext\n\n  indented"
    assert normalize(once) == once


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\u3000", "empty"),
        ("short", "too_short"),
        ("the same line again\n" * 9 + PROSE, "repeated_lines"),
        ("1234 5678 | 90.12 | -3\n4321 8765 | 21.09 | -4\n9999 1111 | 31.09 | -5\n", "few_letters"),
    ],
)
def test_documents_are_dropped_with_a_reason(text, reason):
    found = clean(document(text), STANDARD)
    assert isinstance(found, Drop)
    assert (found.step, found.reason) == ("clean", reason)
    assert found.text_bytes == len(text.encode())  # as it was read
    assert reason in REASONS


@pytest.mark.parametrize(
    "text", [PROSE * 2, CHINESE, HINDI, "x = [\n" + "".join(f"    row({i}),\n" for i in range(30)) + "]\n"]
)
def test_prose_of_any_script_and_code_are_kept(text):
    kept = clean(document(text), Cleaning(max_repeated_lines=1.0))
    assert isinstance(kept, Document)
    assert kept.text == text.rstrip()


def test_none_changes_and_drops_nothing_but_emptiness():
    text = "Ã¶ \r\n\x00"
    given = document(text)
    assert clean(given, CLEANING_PRESETS["none"]) is given
    assert isinstance(clean(document(" "), CLEANING_PRESETS["none"]), Drop)


def test_letters_count_in_every_script():
    assert alphabetic("abc 123") == pytest.approx(0.5)
    assert alphabetic("日本 12") == pytest.approx(0.5)
    assert alphabetic("किताब") == 1.0  # vowel signs are marks
    assert alphabetic("𝒜😀") == pytest.approx(0.5)  # beyond the basic plane
    assert alphabetic(" \n") == 0.0
    ascii_text, same = "ab 1.\n", "ab 1.\n\u2003"
    assert alphabetic(ascii_text) == alphabetic(same)  # both ways of counting agree


def test_repeated_lines_weigh_by_their_length():
    table = "\n".join(f"<tr>\n<td>a row of its own, number {i}</td>\n</tr>" for i in range(50))
    assert repeated_lines(table) < 0.3  # although two thirds of its lines come again
    assert repeated_lines("same\nsame\nsame\nother") == pytest.approx(8 / 17)


def test_languages_are_kept_or_dropped():
    german = (
        "Der Dekorateur nimmt eine Funktion entgegen und gibt eine andere zurück, meistens dieselbe, aber verändert."
    )
    keep = Cleaning(languages=("de",))
    assert isinstance(clean(document(german), keep), Document)
    dropped = clean(document(PROSE * 2), keep)
    assert isinstance(dropped, Drop)
    assert dropped.reason == "language"
    assert language_of("12") == "und"
    assert languages_of([PROSE, german, PROSE]) == {"en": 2, "de": 1}


def test_only_mended_never_drops():
    steps = only_mended(Cleaning(languages=("de",)))
    assert isinstance(clean(document("12 12\n12 12"), steps), Document)
    assert mend("a \r\nb", steps) == "a\nb"
