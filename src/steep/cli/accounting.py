"""What became of a corpus: its accounting, the split, and what was dropped, with examples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from steep.artifacts.rundir import RunDirectory
from steep.artifacts.tokens import TokenDatasetInfo
from steep.corpus.language import UNKNOWN
from steep.spec.errors import DamagedArtifact
from steep.spec.units import format_bytes

PARTS = ("train", "holdout", "general", "replay")
EXAMPLES_KEPT = 3


def read_accounting(run: RunDirectory) -> dict[str, Any]:
    """The accounting as prepare wrote it, with the split by dataset and examples of drops.

    Raises:
        DamagedArtifact: the corpus is prepared, but its accounting cannot be read.
    """
    file = run.dataset / "accounting.json"
    try:
        accounting = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedArtifact(
            f"cannot be read ({error})", where=str(file), cure="Delete the run's dataset/ and prepare it again."
        ) from None
    return {**accounting, "split": split(run), "drop_examples": drops(run)}


def split(run: RunDirectory) -> list[dict[str, Any]]:
    """Every token dataset that was made: to train on, held out, for forgetting, for replay."""
    rows = []
    for part in PARTS:
        for place in sorted((run.dataset / part).glob("*/manifest.json")):
            info = TokenDatasetInfo.model_validate_json(place.read_bytes())
            rows.append(
                {
                    "part": part,
                    "name": info.name,
                    "documents": info.documents,
                    "text_bytes": info.text_bytes,
                    "tokens": info.tokens,
                    "bytes_per_token": info.text_bytes / info.tokens if info.tokens else None,
                }
            )
    return rows


def drops(run: RunDirectory) -> list[dict[str, Any]]:
    """Drops by step and reason, the most bytes first, with a few examples each. Reads the file a batch at a time."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for drop in _dropped(run):
        key = (drop["step"], drop["reason"])
        row = found.setdefault(key, {"step": key[0], "reason": key[1], "documents": 0, "text_bytes": 0, "examples": []})
        row["documents"] += 1
        row["text_bytes"] += drop["text_bytes"]
        if len(row["examples"]) < EXAMPLES_KEPT:
            row["examples"].append({name: drop[name] for name in ("source", "origin", "excerpt")})
    return sorted(found.values(), key=lambda row: (-row["text_bytes"], row["step"], row["reason"]))


def _dropped(run: RunDirectory) -> Iterator[dict[str, Any]]:
    file = run.dataset / "drops.parquet"
    if not file.exists():
        return
    import pyarrow.parquet as pq

    columns = ["source", "origin", "step", "reason", "text_bytes", "excerpt"]
    for batch in pq.ParquetFile(file).iter_batches(columns=columns):
        yield from batch.to_pylist()


def print_accounting(accounting: Mapping[str, Any]) -> None:
    """For people: the split, the sums, the drops."""
    console = Console(highlight=False)
    _print_split(accounting["split"], console)
    for name, value in accounting.items():
        if name == "languages":
            _print_languages(value, console)
        elif name not in ("split", "drop_examples"):
            _print_value(name, value, console)
    _print_drops(accounting["drop_examples"], console)


def _print_split(rows: list[dict[str, Any]], console: Console) -> None:
    table = _table("Split", "", "source", "documents", "text", "tokens", "bytes per token")
    for row in rows:
        fertility = row["bytes_per_token"]
        table.add_row(
            row["part"],
            row["name"],
            f"{row['documents']:,}",
            format_bytes(row["text_bytes"]),
            f"{row['tokens']:,}",
            "-" if fertility is None else f"{fertility:.2f}",
        )
    console.print(table)


def _print_languages(documents: Mapping[str, int], console: Console) -> None:
    """Documents by language, with how many were looked at: all together are fewer than the split has, and none is lost."""
    if not documents:
        return
    table = _table("Languages", "", f"documents, of a sample of {sum(documents.values()):,}")
    table.columns[-1].justify = "right"
    for code, count in documents.items():
        table.add_row("unknown" if code == UNKNOWN else code, f"{count:,}")
    console.print()
    console.print(table)


def _print_drops(rows: list[dict[str, Any]], console: Console) -> None:
    console.print()
    if not rows:
        console.print("Nothing was dropped.")
        return
    table = _table("Dropped", "step", "reason", "documents", "text", "an example")
    table.columns[-1].justify = "left"
    for row in rows:
        example = row["examples"][0]
        excerpt = " ".join(str(example["excerpt"] or "").split())[:60]
        where = Text(example["origin"]) + Text(f"  {excerpt}", "dim")
        table.add_row(row["step"], row["reason"], f"{row['documents']:,}", format_bytes(row["text_bytes"]), where)
    console.print(table)


def _print_value(name: str, value: Any, console: Console) -> None:
    """A number in a line; a mapping or a list of mappings in a table."""
    title = name.replace("_", " ")
    if isinstance(value, Mapping) and value and all(isinstance(each, Mapping) for each in value.values()):
        rows = [{title: key, **each} for key, each in value.items()]
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        rows = value
    elif isinstance(value, Mapping):
        rows = [{"": _label(str(key)), title: each} for key, each in value.items()]
    else:
        if value not in (None, [], ""):
            console.print(f"{title}: {_spell(name, value)}")
        return
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = _table(title.capitalize(), *map(_label, columns))
    for row in rows:
        table.add_row(*(_spell(f"{name}.{column}", row.get(column)) for column in columns))
    console.print()
    console.print(table)


def _label(key: str) -> str:
    """A key as people read it. Nothing has been trained when this is read."""
    return key.replace("_", " ").replace("trained", "to train on")


def _spell(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_spell(name, each)}" for key, each in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, float):
        return f"{value:,.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return format_bytes(value) if "bytes" in name else f"{value:,}"
    return "-" if value is None else str(value)


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title=title, title_justify="left")
    for i, column in enumerate(columns):
        # only headings of several words give way on a narrow terminal
        table.add_column(column, justify="left" if i < 2 else "right", overflow="fold", no_wrap=" " not in column)
    return table
