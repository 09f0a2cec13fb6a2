"""Records: the field with the text, in lines, arrays, tables and columns."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.corpus.helpers import PROSE, lines_of, read, reason_of, text_of, write

from steep.corpus.extract import FAILURES
from steep.spec.errors import InvalidCorpus


def test_broken_lines_are_dropped_with_their_number(tmp_path: Path) -> None:
    content = (
        lines_of({"text": "one"})
        + '{"text": "cut off\n'
        + "\n"
        + lines_of({"text": ""}, {"text": None}, {"title": "no text"}, {"text": 7}, "a bare string", [1, 2])
        + lines_of({"text": "last"}).strip()
    )
    documents, drops = read(write(tmp_path / "a.jsonl", content))
    assert [(document.origin, document.text) for document in documents] == [
        ("a.jsonl:1", "one"),
        ("a.jsonl:8", "a bare string"),
        ("a.jsonl:10", "last"),
    ]
    assert [(drop.origin, drop.reason) for drop in drops] == [
        ("a.jsonl:2", "broken_line"),
        ("a.jsonl:4", "empty"),
        ("a.jsonl:5", "empty"),
        ("a.jsonl:6", "no_text_field"),
        ("a.jsonl:7", "no_text_field"),
        ("a.jsonl:9", "broken_line"),
    ]
    assert drops[0].text_bytes == len('{"text": "cut off\n')
    assert not {drop.reason for drop in drops} & FAILURES


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"text": "T", "body": "B"}, "T"),
        ({"title": "t", "content": "C"}, "C"),
        ({"id": "x", "meta": {"lang": "en"}, "essay": PROSE}, PROSE),
        ({"id": "x", "data": {"essay": PROSE}}, PROSE),
        ({"text": ["One.", "Two."]}, "One.\n\nTwo."),
        ({"text": "lone \ud800 surrogate"}, "lone \ufffd surrogate"),
    ],
)
def test_the_text_is_found_where_it_is_clear(tmp_path: Path, record: dict[str, object], expected: str) -> None:
    assert text_of(write(tmp_path / "a.jsonl", lines_of(record))) == expected


@pytest.mark.parametrize(("field", "expected"), [("a.b", "nested"), ("a.b.c", "with dots"), ("plain", "P")])
def test_a_named_field_may_be_nested(tmp_path: Path, field: str, expected: str) -> None:
    record = {"text": "not this", "plain": "P", "a": {"b": "nested"}, "a.b.c": "with dots"}
    assert text_of(write(tmp_path / "a.jsonl", lines_of(record)), text_field=field) == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_a_wrong_field_is_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    records = [{"body": PROSE, "title": "A"}, {"body": PROSE, "title": "B"}]
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(records), path)
    elif name.endswith("csv"):
        write(path, "body,title\n" + "".join(f'"{r["body"]}",{r["title"]}\n' for r in records))
    else:
        write(path, json.dumps(records) if name.endswith("json") else lines_of(*records))
    assert len(read(path, text_field="body")[0]) == 2
    with pytest.raises(InvalidCorpus, match=r"no field 'bdoy'; did you mean 'body'\?.*body, title"):
        read(path, text_field="bdoy")


def test_an_unclear_field_is_asked_for_in_a_named_file_and_skipped_in_a_directory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", lines_of({"question": PROSE, "answer": PROSE}))
    with pytest.raises(InvalidCorpus, match="no field is clearly the text; there are: question, answer"):
        read(path)
    write(tmp_path / "b.txt", PROSE)
    documents, drops = read(tmp_path)
    assert [document.origin for document in documents] == ["b.txt"]
    assert [drop.reason for drop in drops] == ["no_text_field"]


def test_json_in_all_its_shapes(tmp_path: Path) -> None:
    records = [{"text": f"{number} {PROSE}"} for number in range(3)]
    for number, content in enumerate(
        [
            json.dumps(records),
            json.dumps(records, indent=2),
            json.dumps({"version": 1, "data": records}),
            "\ufeff" + lines_of(*records),
            json.dumps([record["text"] for record in records]),
        ]
    ):
        documents, drops = read(write(tmp_path / f"{number}.json", content))
        assert [document.text for document in documents] == [record["text"] for record in records]
        assert not drops
    assert text_of(write(tmp_path / "one.json", json.dumps(records[1]))) == records[1]["text"]
    assert reason_of(write(tmp_path / "bad.json", "{nothing")) == "corrupt"


def test_a_big_array_is_read_one_by_one_and_its_broken_end_is_told(tmp_path: Path) -> None:
    records = [{"text": f"{number} {PROSE * 20}"} for number in range(600)]  # several blocks
    content = json.dumps(records)[:-40]
    documents, drops = read(write(tmp_path / "a.json", content))
    assert [document.text for document in documents] == [record["text"] for record in records[:-1]]
    assert [drop.reason for drop in drops] == ["corrupt"]
    assert drops[0].text_bytes > 1000


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables_of_text(tmp_path: Path, delimiter: str) -> None:
    long = 'He said "yes",\nthen; no | more\tof it. ' * 5
    quoted = '"' + long.replace('"', '""') + '"'
    rows = [["id", "text"], ["1", quoted], ["2", quoted], ["3", ""], ["4", "short", "extra", "more"]]
    content = "\r\n".join(delimiter.join(row) for row in rows)
    documents, drops = read(write(tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv"), content))
    assert [document.text for document in documents] == [long, long]
    assert [drop.reason for drop in drops] == ["empty", "broken_line"]


def test_csv_takes_fields_longer_than_python_likes(tmp_path: Path) -> None:
    assert text_of(write(tmp_path / "a.csv", f"id,text\n1,{'x' * 200_000}\n")) == "x" * 200_000


def test_parquet_reads_its_column_in_batches(tmp_path: Path) -> None:
    rows = [{"id": number, "meta": {"text": f"{number} {PROSE}", "n": 1}, "blob": b"\0" * 100} for number in range(700)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=100)
    documents, drops = read(tmp_path / "a.parquet", text_field="meta.text")
    assert [document.text for document in documents] == [row["meta"]["text"] for row in rows]  # type: ignore[index]
    assert not drops
    assert read(tmp_path / "a.parquet")[0][5].origin == "a.parquet:6"
    data = (tmp_path / "a.parquet").read_bytes()
    assert reason_of(write(tmp_path / "cut.parquet", data[: len(data) // 2])) == "corrupt"
