"""Bytes to text: every sane encoding, none of the binary."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.corpus.helpers import reason_of, text_of, write

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.encoding import decode, decode_declared, detect, known_encoding, mend_surrogates

GERMAN = (
    "Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett zu einem ungeheuren "
)
GERMAN += "Ungeziefer verwandelt. Er lag auf seinem panzerartig harten Rücken und sah, wenn er den Kopf ein wenig hob. "
CHINESE = "在我的后园，可以看见墙外有两株树，一株是枣树，还有一株也是枣树。这上面的夜的天空，奇怪而高。" * 4  # noqa: RUF001
POLISH = "Był to dzień, w którym wszystko się zaczęło, a nikt o tym jeszcze nie wiedział. Pogoda była piękna, słońce "
POLISH += "świeciło mocno, a ludzie szli do pracy tak samo jak wczoraj. Późnym wieczorem usiadł przy oknie i patrzył na ulicę. "
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая семья несчастлива по-своему. " * 4  # noqa: RUF001
JAPANESE = (
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。" * 4
)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", GERMAN + CHINESE),
        ("utf-8-sig", GERMAN),
        ("utf-16", GERMAN),
        ("utf-16", CHINESE),
        ("utf-16-le", GERMAN),
        ("utf-16-be", "Date: 10.10.2000, 100 of 1000. " + GERMAN),
        ("utf-16-le", CHINESE),
        ("utf-16-be", CHINESE),
        ("utf-32", GERMAN),
        ("utf-32-le", GERMAN),
        ("cp1252", GERMAN + "Der Preis: 15 €, „gut“."),
        ("latin-1", GERMAN),
        ("gb18030", CHINESE),
        ("big5", "在我的後園可以看見牆外有兩株樹一株是棗樹還有一株也是棗樹" * 8),
        ("shift_jis", JAPANESE),
        ("euc-jp", JAPANESE),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("iso8859-2", POLISH),
        ("cp1250", POLISH),
        (
            "cp1250",
            "Bylo to v den, kdy všechno začalo, a nikdo o tom ještě nevěděl. Počasí bylo krásné, slunce svítilo.",
        ),
    ],
)
def test_encodings_are_detected(tmp_path: Path, encoding: str, text: str) -> None:
    assert text_of(write(tmp_path / "a.txt", text.encode(encoding))) == text


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_a_large_file_is_decoded_as_it_streams(tmp_path: Path, encoding: str) -> None:
    from tests.corpus.helpers import read

    text = (GERMAN + "\n\n") * 25_000
    documents, drops = read(write(tmp_path / "a.txt", text.encode(encoding)))
    assert not drops
    assert "".join(document.text for document in documents) == text


def test_an_encoding_that_is_given_is_obeyed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", RUSSIAN.encode("cp866"))
    assert text_of(path, encoding="cp866") == RUSSIAN
    assert reason_of(path, encoding="ascii") == "encoding"


def test_records_in_other_encodings(tmp_path: Path) -> None:
    assert text_of(write(tmp_path / "a.jsonl", f'{{"text": "{GERMAN}"}}\n'.encode("utf-16"))) == GERMAN
    assert text_of(write(tmp_path / "b.jsonl", f'{{"text": "{GERMAN}"}}\n'.encode("cp1252"))) == GERMAN
    assert text_of(write(tmp_path / "c.csv", f'id;text\n1;"{GERMAN}"\n'.encode("cp1252"))) == GERMAN
    assert text_of(write(tmp_path / "d.json", f'{{"text": "{GERMAN}"}}'.encode("utf-16"))) == GERMAN


def test_stray_bytes_in_utf8_are_mended_as_windows_would() -> None:
    data = GERMAN.encode() * 3 + b"It\x92s 5 \x80." + GERMAN.encode()
    assert decode(data) == GERMAN * 3 + "It\u2019s 5 \u20ac." + GERMAN
    assert mend_surrogates("a\udc92b\ud800") == "a\u2019b\ufffd"


def test_a_damaged_place_does_not_cost_the_file() -> None:
    text = GERMAN * 20
    data = text.encode("utf-16")
    assert decode(data[:2000] + b"\x00\xd8" + data[2000:]) == text[:999] + "\ufffd" + text[999:]
    with pytest.raises(Unreadable):
        decode(data[:-1001] + random.Random(2).randbytes(4000), "utf-16")


@pytest.mark.parametrize(
    "data",
    [bytes(range(256)) * 20, random.Random(5).randbytes(5000), b"\x7fELF\x02\x01\x01" + bytes(500), b"\0" * 1000],
)
def test_binary_is_no_text(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(data)


def test_what_a_document_says_of_itself_is_believed_unless_it_cannot_be() -> None:
    assert decode_declared(RUSSIAN.encode("koi8-r"), "koi8-r") == RUSSIAN
    assert decode_declared(GERMAN.encode("utf-8"), "iso-8859-1") == GERMAN
    assert decode_declared("€ 5".encode("cp1252"), "iso-8859-1") == "€ 5"
    assert decode_declared(GERMAN.encode("cp1252"), "utf-8") == GERMAN
    assert decode_declared(GERMAN.encode("utf-8"), "no-such-thing") == GERMAN


def test_names_of_encodings() -> None:
    assert known_encoding("UTF8")
    assert not known_encoding("rot13")
    assert not known_encoding("nonsense")
    assert detect(b"plain") == "utf-8"
