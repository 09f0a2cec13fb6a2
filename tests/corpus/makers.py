"""Small real files of the formats that people have text in, written part by part."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any


def package(path: Path, files: dict[str, str]) -> Path:
    """A zip archive of text files, as all newer office formats are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def _office_parts(main: str, content_type: str) -> dict[str, str]:
    return {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/><Override PartName="/{main}" ContentType="{content_type}"/>'
        "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="r1" Type="{_OFFICE}/officeDocument" '
        f'Target="{main}"/></Relationships>',
    }


def make_docx(path: Path) -> Path:
    """A Word document with a heading, text, a list, a table and a footnote."""

    def paragraph(text: str, properties: str = "") -> str:
        return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"

    def row(*cells: str) -> str:
        return "<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in cells) + "</w:tr>"

    item = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>'
    body = paragraph("A Heading", '<w:pStyle w:val="Heading1"/>') + paragraph("Some text, &amp; more.")
    body += paragraph("first", item) + paragraph("second", item)
    body += "<w:tbl>" + row("Name", "Size") + row("a|b", "3") + "</w:tbl>" + paragraph("The end.")
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    parts = _office_parts(
        "word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    )
    parts["word/document.xml"] = f"<w:document {word}><w:body>{body}</w:body></w:document>"
    parts["word/styles.xml"] = (
        f'<w:styles {word}><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style></w:styles>'
    )
    parts["word/numbering.xml"] = (
        f'<w:numbering {word}><w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl>'
        '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num></w:numbering>'
    )
    relations = "".join(
        f'<Relationship Id="r{number}" Type="{_OFFICE}/{name}" Target="{name}.xml"/>'
        for number, name in enumerate(("styles", "numbering"))
    )
    parts["word/_rels/document.xml.rels"] = f'<Relationships xmlns="{_RELATIONS}">{relations}</Relationships>'
    return package(path, parts)


def make_xlsx(path: Path, sheets: dict[str, Sequence[Sequence[str | float]]]) -> Path:
    """A workbook of these sheets."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    parts = _office_parts(
        "xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    )
    listed, relations = "", ""
    for number, (name, rows) in enumerate(sheets.items(), start=1):
        listed += f'<sheet name="{name}" sheetId="{number}" r:id="r{number}"/>'
        relations += f'<Relationship Id="r{number}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        cells = "".join(
            f'<row r="{at}">' + "".join(_cell(chr(64 + column), at, v) for column, v in enumerate(row, 1)) + "</row>"
            for at, row in enumerate(rows, start=1)
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>'
        )
    parts["xl/workbook.xml"] = f'<workbook xmlns="{main}" xmlns:r="{_OFFICE}"><sheets>{listed}</sheets></workbook>'
    parts["xl/_rels/workbook.xml.rels"] = f'<Relationships xmlns="{_RELATIONS}">{relations}</Relationships>'
    return package(path, parts)


def _cell(column: str, row: int, value: str | float) -> str:
    if isinstance(value, str):
        text = value.replace("&", "&amp;")
        return f'<c r="{column}{row}" t="inlineStr"><is><t>{text}</t></is></c>' if value else ""
    return f'<c r="{column}{row}"><v>{value}</v></c>'


def make_pptx(path: Path) -> Path:
    """Slides with a title, points, a table and a note."""
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "The plan"
    frame = slide.placeholders[1].text_frame
    frame.text = "First point"
    below = frame.add_paragraph()
    below.text, below.level = "A detail", 1
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(5), Inches(4), Inches(1)).table
    for at, text in enumerate(("a", "b", "1", "2")):
        table.cell(at // 2, at % 2).text = text
    slide.notes_slide.notes_text_frame.text = "Say this slowly."
    deck.save(str(path))
    return path


def make_odt(path: Path) -> Path:
    """An OpenDocument text with a heading, a list and a table."""
    from odf import table, text
    from odf.opendocument import OpenDocumentText

    document = OpenDocumentText()
    document.text.addElement(text.H(outlinelevel=2, text="A Heading"))
    paragraph = text.P(text="Words")
    paragraph.addElement(text.Tab())
    paragraph.addText("after a tab")
    paragraph.addElement(text.LineBreak())
    paragraph.addText("and a break")
    document.text.addElement(paragraph)
    listing, item, inner, deep = text.List(), text.ListItem(), text.List(), text.ListItem()
    item.addElement(text.P(text="outer"))
    deep.addElement(text.P(text="inner"))
    inner.addElement(deep)
    item.addElement(inner)
    listing.addElement(item)
    document.text.addElement(listing)
    grid = table.Table()
    for cells in (("a", "b"), ("1", "2")):
        row = table.TableRow()
        for content in cells:
            cell = table.TableCell()
            cell.addElement(text.P(text=content))
            row.addElement(cell)
        grid.addElement(row)
    document.text.addElement(grid)
    document.save(str(path))
    return path


def make_epub(path: Path, chapters: Sequence[str], extra: dict[str, str] | None = None) -> Path:
    """An e-book whose spine has the chapters in reverse order of their files."""
    names = [f"c{len(chapters) - at}.xhtml" for at in range(len(chapters))]
    items = "".join(f'<item id="{n}" href="text/{n}" media-type="application/xhtml+xml"/>' for n in sorted(names))
    items += '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    spine = '<itemref idref="nav"/>' + "".join(f'<itemref idref="{name}"/>' for name in names)
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
        "OPS/book.opf": f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest>'
        f"<spine>{spine}</spine></package>",
        "OPS/nav.xhtml": "<html><body><nav>Contents</nav></body></html>",
    }
    for name, chapter in zip(names, chapters, strict=True):
        files[f"OPS/text/{name}"] = f"<?xml version='1.0' encoding='utf-8'?><html><body>{chapter}</body></html>"
    return package(path, files | (extra or {}))


def make_notebook(path: Path) -> Path:
    """A notebook with prose, code and outputs of several kinds."""
    import nbformat.v4 as v4

    outputs = [
        v4.new_output("stream", text="10%\r100%\nprinted\n"),
        v4.new_output("execute_result", data={"text/plain": "42", "text/html": "<b>42</b>"}),
        v4.new_output("display_data", data={"text/plain": "<Figure size 640x480 with 1 Axes>", "image/png": "aaaa"}),
        v4.new_output("error", ename="ValueError", evalue="no", traceback=["\x1b[31mlong\x1b[0m"]),
    ]
    cells = [
        v4.new_markdown_cell("# Title\n\nSome *prose*. ![plot](attachment:a.png)"),
        v4.new_code_cell("def f():\n    return 42\n\n\n\nf()", outputs=outputs),
        v4.new_code_cell(""),
        v4.new_raw_cell("raw stuff"),
    ]
    notebook = v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    import nbformat

    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return path


def make_pdf(path: Path, pages: Sequence[Sequence[str]], **options: Any) -> Path:
    """A PDF of these lines on these pages."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(path, **options) as out:
        for lines in pages:
            figure = Figure(figsize=(8, 11))
            for at, line in enumerate(lines):
                figure.text(0.1, 0.95 - 0.025 * at, line, fontsize=9)
            out.savefig(figure)
    return path


def make_mail(*, plain: str | None, html: str | None = None, attach: bytes | None = None) -> bytes:
    """A mail with these parts."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "Grüße aus Köln", "a@example.org", "b@example.org"
    if plain is not None:
        message.set_content(plain)
    if html is not None and plain is not None:
        message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html")
    if attach is not None:
        message.add_attachment(attach, maintype="application", subtype="octet-stream", filename="x.bin")
    out = io.BytesIO()
    out.write(bytes(message))
    return out.getvalue()
