"""Spreadsheets: each sheet a heading and a table."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator, Sequence
from typing import Any

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.markdown import join_blocks, table
from steep.corpus.formats.office import OLE_MAGIC, open_package, refuse_encrypted


def read_sheet(data: bytes, _encoding: str | None) -> str:
    """The workbook's cells, hidden sheets left out. Raises Unreadable, and whatever the extractor does."""
    from python_calamine import CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

    refuse_encrypted(data)
    if not data.startswith(OLE_MAGIC):
        open_package(data).close()
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    except PasswordError as error:
        raise Unreadable("encrypted", "is locked with a password") from error
    names = [
        sheet.name
        for sheet in book.sheets_metadata
        if sheet.visible == SheetVisibleEnum.Visible and sheet.typ == SheetTypeEnum.WorkSheet
    ]
    blocks = []
    for name in names:
        rows = [[_cell(value) for value in row] for row in book.get_sheet_by_name(name).to_python()]
        cells = list(_blocks(rows))
        if cells:
            blocks += [f"## {name}" if len(names) > 1 else "", *cells]
    return join_blocks(blocks)


def _blocks(rows: Sequence[list[str]]) -> Iterator[str]:
    """Runs of rows as tables; a row with a single cell before one is its title or a line of text."""
    held: list[list[str]] = []
    for row in rows:
        filled = [cell for cell in row if cell.strip()]
        if len(filled) > 1 or (filled and held and _width(held) == 1) or (filled and not row[0].strip()):
            held.append(row)
            continue
        if held:
            yield table(held)
            held = []
        if filled:
            yield filled[0]
    if held:
        yield table(held)


def _width(rows: Sequence[list[str]]) -> int:
    return max(sum(1 for cell in row if cell.strip()) for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.12g}"  # as people typed it: 0.1 + 0.2 is 0.3
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
