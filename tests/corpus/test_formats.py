"""What text comes out of each format: headings, tables and code kept, page furniture and markup gone."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from tests.corpus import makers
from tests.corpus.helpers import read, reason_of, text_of, write

from steep.corpus.document import Document
from steep.corpus.extract import extract
from steep.corpus.formats.markdown import fenced, table, tidy
from steep.corpus.sources import list_files
from steep.spec.job import Source

RUSSIAN = "Все счастливые семьи"  # noqa: RUF001
SENTENCE = "The quick brown fox jumps over the lazy dog near the old bridge at dawn"


def test_docx(tmp_path: Path) -> None:
    assert text_of(makers.make_docx(tmp_path / "a.docx")) == (
        "# A Heading\n\nSome text, & more.\n\n- first\n- second\n\n"
        "| Name | Size |\n| --- | --- |\n| a\\|b | 3 |\n\nThe end."
    )


def test_xlsx(tmp_path: Path) -> None:
    rows: list[list[str | float]] = [
        ["Cups", "", ""],
        ["Team", "", "Cups"],
        ["Blues & co", "", 1.0],
        ["Flyers", "", 2.5],
    ]
    grid = "Cups\n\n| Team | Cups |\n| --- | --- |\n| Blues & co | 1 |\n| Flyers | 2.5 |"
    assert text_of(makers.make_xlsx(tmp_path / "one.xlsx", {"S": rows})) == grid
    two = makers.make_xlsx(tmp_path / "two.xlsx", {"First": rows, "Empty": [], "Last": [["x", "y"]]})
    assert text_of(two) == f"## First\n\n{grid}\n\n## Last\n\n| x | y |\n| --- | --- |"


def test_pptx(tmp_path: Path) -> None:
    assert text_of(makers.make_pptx(tmp_path / "a.pptx")) == (
        "## The plan\n\nFirst point\n  - A detail\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nSay this slowly."
    )


def test_odt(tmp_path: Path) -> None:
    assert text_of(makers.make_odt(tmp_path / "a.odt")) == (
        "## A Heading\n\nWords\tafter a tab\nand a break\n\n- outer\n  - inner\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    )


def test_epub(tmp_path: Path) -> None:
    book = makers.make_epub(tmp_path / "a.epub", ["<h1>One</h1><p>Première.</p>", "<h1>Two</h1><p>Then.</p>"])
    assert text_of(book) == "# One\n\nPremière.\n\n# Two\n\nThen."
    locked = makers.make_epub(tmp_path / "b.epub", ["<p>x</p>"], {"META-INF/rights.xml": "<rights/>"})
    assert reason_of(locked) == "encrypted"


def test_rtf(tmp_path: Path) -> None:
    rtf = r"{\rtf1\ansi\ansicpg1252{\fonttbl\f0 Arial;}{\b Title}\par Caf\'e9 \u8364? and \{braces\}.\par}"
    assert text_of(write(tmp_path / "a.rtf", rtf)) == "Title\nCafé € and {braces}."


def test_notebook(tmp_path: Path) -> None:
    assert text_of(makers.make_notebook(tmp_path / "a.ipynb")) == (
        "# Title\n\nSome *prose*.\n\n```python\ndef f():\n    return 42\n\n\n\nf()\n```\n\n"
        "```\n100%\nprinted\n42\nValueError: no\n```"
    )


def test_mail(tmp_path: Path) -> None:
    html = "<html><body><p>Some <b>HTML</b> text.</p></body></html>"
    both = makers.make_mail(plain="Hällo.\n\n> quoted\n", html=html, attach=b"\0\1")
    assert text_of(write(tmp_path / "both.eml", both)) == "Grüße aus Köln\n\nHällo.\n\n> quoted"
    assert text_of(write(tmp_path / "html.eml", makers.make_mail(plain=None, html=html))) == (
        "Grüße aus Köln\n\nSome **HTML** text."
    )
    wrong = b"Subject: x\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nGr\xc3\xbc\xc3\x9fe"
    assert text_of(write(tmp_path / "lies.eml", wrong)) == "x\n\nGrüße"


# ----------------------------------------------------------------------------------------------------------------- PDF


def test_pdf_joins_lines_and_words(tmp_path: Path) -> None:
    lines = [
        "A Short Heading",
        "It is a truth universally acknowledged, that a single man in possession of a good",
        "fortune must be in want of a wife. However little known the feelings or views of such a man",
        "may be on his first entering a neighbourhood, this truth is so well fixed in the minds of the sur-",
        "rounding families, that he is considered as the rightful property of some one or other.",
        "1. First item",
        "2. Second item",
    ]
    text = text_of(makers.make_pdf(tmp_path / "a.pdf", [lines]))
    assert (
        "A Short Heading\n\nIt is a truth universally acknowledged, that a single man in possession of a good fortune"
        in text
    )
    assert "in the minds of the surrounding families" in text
    assert text.endswith("1. First item\n2. Second item")


def test_pdf_leaves_out_what_stands_on_every_page(tmp_path: Path) -> None:
    draw = random.Random(1)
    pages = []
    for number in range(1, 7):
        words = [draw.choice(SENTENCE.split()) for _ in range(60)]
        body = [" ".join(words[at : at + 15]) for at in range(0, 60, 15)]
        pages.append(
            [
                f"Chapter 3 - The Annual Report {number}",
                *body,
                f"Only {SENTENCE.split()[number]} comes at the end of this.",
                str(number),
            ]
        )
    text = text_of(makers.make_pdf(tmp_path / "a.pdf", pages))
    assert "Annual Report" not in text
    assert not [line for line in text.splitlines() if line.strip().isdecimal()]
    assert text.count("of this.") == 6


def test_pdf_without_text_and_locked_ones(tmp_path: Path) -> None:
    assert reason_of(makers.make_pdf(tmp_path / "scan.pdf", [[], []])) == "empty"
    plain = makers.make_pdf(tmp_path / "a.pdf", [[SENTENCE]]).read_bytes()
    lock = b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <" + b"00" * 32 + b"> /U <" + b"11" * 32 + b"> /P -4 >>"
    locked = plain.replace(b"/Root", lock + b" /ID [<00> <00>] /Root", 1)
    assert reason_of(write(tmp_path / "locked.pdf", locked)) == "encrypted"
    assert reason_of(write(tmp_path / "cut.pdf", plain[:200])) == "corrupt"


# ------------------------------------------------------------------------------------------------------------- markup


def page(body: str, head: str = "") -> str:
    return f"<!DOCTYPE html><html><head><title>T</title>{head}</head><body>{body}</body></html>"


def test_html_gives_the_article_alone(tmp_path: Path) -> None:
    article = "".join(f"<p>{SENTENCE}, for the {number}th time; {SENTENCE.lower()}.</p>" for number in range(8))
    body = (
        "<nav><a href='/'>Home</a><a href='/about'>About us</a></nav><div class='cookie-banner'>We use cookies</div>"
        f"<article><h1>The Fox</h1>{article}<pre><code class='language-python'>def fox():\n    return 'x | y'\n</code></pre>"
        "<table><tr><th>Name</th><th>Size</th></tr><tr><td>fox</td><td>small</td></tr></table></article>"
        "<footer>Copyright</footer><script>alert('no')</script><style>p {}</style>"
    )
    text = text_of(write(tmp_path / "a.html", page(body)))
    assert "# The Fox" in text
    assert text.count("quick brown fox") == 16
    assert "def fox():\n    return 'x | y'" in text
    assert "| Name | Size |\n| --- | --- |\n| fox | small |" in text
    assert not [word for word in ("Home", "About", "Copyright", "alert", "p {}", "href", "<p>") if word in text]


def test_html_of_a_small_page_is_all_of_it(tmp_path: Path) -> None:
    body = "<h2>Notes</h2><ul><li>one<ul><li>two</li></ul></li></ul><p>A line\n   broken in the source<br>and here.</p>"
    assert text_of(write(tmp_path / "a.html", page(body))) == (
        "## Notes\n\n- one\n  - two\n\nA line broken in the source\nand here."
    )


def test_html_opens_tables_that_only_lay_out(tmp_path: Path) -> None:
    body = (
        f"<table><tr><td><h1>Title</h1><p>{SENTENCE}.</p><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>"
    )
    assert text_of(write(tmp_path / "a.html", page(body))) == f"# Title\n\n{SENTENCE}.\n\n| a | b |\n| --- | --- |"


def test_html_says_its_own_encoding(tmp_path: Path) -> None:
    html = page(f"<p>{RUSSIAN}</p>", '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">')
    assert text_of(write(tmp_path / "a.html", html.encode("koi8-r"))) == RUSSIAN
    assert text_of(write(tmp_path / "b.html", html.encode("utf-8"))) == RUSSIAN
    assert text_of(write(tmp_path / "c.html", html.encode("utf-16"))) == RUSSIAN


def test_jats(tmp_path: Path) -> None:
    xml = """<?xml version="1.0"?><!DOCTYPE article SYSTEM "http://127.0.0.1:9/x.dtd">
    <article xmlns:mml="http://www.w3.org/1998/Math/MathML"><front><journal-meta><issn>1-2</issn></journal-meta>
    <article-meta><title-group><article-title>On <italic>Foxes</italic></article-title></title-group>
    <abstract><p>We jump.</p></abstract><abstract abstract-type="graphical"><p>No.</p></abstract></article-meta></front>
    <body><sec><title>Methods</title><p>We used dogs <xref>[1]</xref> &amp;
    <inline-formula><alternatives><tex-math>\\begin{document}$x^2$\\end{document}</tex-math><mml:math><mml:mi>x</mml:mi></mml:math>
    </alternatives></inline-formula>.<fig><label>Fig 1</label><caption><title>A fox.</title></caption></fig></p>
    <sec><title>More</title><list><list-item><p>one</p></list-item><list-item><p>two</p></list-item></list>
    <table-wrap><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></table-wrap></sec></sec></body>
    <back><ref-list><ref>Somebody 1999</ref></ref-list></back></article>"""
    assert text_of(write(tmp_path / "a.xml", xml)) == (
        "# On Foxes\n\n## Abstract\n\nWe jump.\n\n## Methods\n\nWe used dogs [1] & $x^2$.\n\n## A fox.\n\n"
        "### More\n\n- one\n- two\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    )


def test_xml_of_any_kind(tmp_path: Path) -> None:
    xml = (
        f"<facts><country><name>France</name><capital>Paris</capital></country><p>{SENTENCE} <b>and</b> on.</p></facts>"
    )
    expected = f"name: France\ncapital: Paris\n\n{SENTENCE} and on."
    assert text_of(write(tmp_path / "a.xml", xml)) == expected
    assert text_of(write(tmp_path / "b.xml", xml.encode("utf-16"))) == expected


def test_xml_resolves_no_entities(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "the secret")
    outside = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret.as_uri()}">]><a><p>before &e; after the entity</p></a>'
    assert "secret" not in text_of(write(tmp_path / "a.xml", outside)).replace("secret&", "")
    laughs = '<!DOCTYPE a [<!ENTITY l "lol">' + "".join(
        f'<!ENTITY l{n} "{f"&l{n - 1 or str()};" * 10}">' for n in range(1, 10)
    )
    documents, _ = read(write(tmp_path / "b.xml", f"{laughs}]><a><p>ha &l9;</p></a>"))
    assert all(len(document.text) < 1000 for document in documents)


def test_latex(tmp_path: Path) -> None:
    tex = r"""\documentclass{article}\usepackage{amsmath}\newcommand{\R}{\mathbb{R}}
\title{A \emph{Short} Note}
\begin{document}\maketitle
\begin{abstract}We show 5\% of ``things''.\end{abstract}
\section{Intro}\label{sec:intro}
See \ref{sec:intro} and \cite[p.~3]{knuth}, with $x \in \R$. % a comment
\index{numbers}
Caf\'e --- \textbf{bold}.
\begin{itemize}
\item one
\item two
\end{itemize}
\begin{equation}E = mc^2\end{equation}
\begin{verbatim}
def f(x):
    return {x}
\end{verbatim}
\begin{tabular}{ll}a & b \\ \hline 1 & 2 \\\end{tabular}
\begin{theorem}[Fox] It jumps.\end{theorem}
\begin{figure}\includegraphics{x.png}\caption{A fox.}\end{figure}
\end{document}"""
    text = text_of(write(tmp_path / "a.tex", tex))
    for expected in (
        "# A Short Note\n\n## Abstract\n\nWe show 5% of “things”.\n\n## Intro\n\n",
        "See \\ref{sec:intro} and \\cite[p.~3]{knuth}, with $x \\in \\R$.\nCafé — bold.",
        "- one\n- two",
        "\\begin{equation}E = mc^2\\end{equation}",
        "```\ndef f(x):\n    return {x}\n```",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "Theorem (Fox). It jumps.",
        "A fox.",
    ):
        assert expected in text
    assert not [word for word in ("comment", "usepackage", "numbers", "GIVEN", "x.png", "\ue0ff") if word in text]
    assert reason_of(write(tmp_path / "macros.tex", r"\def\a{b}" * 50)) == "empty"


def test_markdown_parts() -> None:
    assert table([["a", ""], ["", ""], ["b", ""]]) == "a\nb"
    assert table([]) == ""
    assert fenced("x\n```\ny") == "````\nx\n```\ny\n````"
    assert tidy("a  \n\n\n\nb\r\n\n```\nc\n\n\n\nd\n```\n\n\n") == "a\n\nb\n\n```\nc\n\n\n\nd\n```"


# ------------------------------------------------------------------------------------------------------ whatever comes


def test_damaged_files_never_stop_the_next(tmp_path: Path) -> None:
    """Each format cut, and with bytes changed: documents or drops, nothing else."""
    makers.make_docx(tmp_path / "a.docx")
    makers.make_xlsx(tmp_path / "a.xlsx", {"S": [["a", 1.0]]})
    makers.make_pptx(tmp_path / "a.pptx")
    makers.make_odt(tmp_path / "a.odt")
    makers.make_epub(tmp_path / "a.epub", ["<p>x</p>"])
    makers.make_notebook(tmp_path / "a.ipynb")
    makers.make_pdf(tmp_path / "a.pdf", [[SENTENCE] * 5])
    write(tmp_path / "a.eml", makers.make_mail(plain="x", html="<p>y</p>", attach=b"z" * 50))
    write(tmp_path / "a.rtf", r"{\rtf1 {\b T}\par x}")
    draw = random.Random(11)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        for trial in range(4):
            data = bytearray(whole[: draw.randrange(1, len(whole))] if trial % 2 else whole)
            for _ in range(len(data) // 50 + 1):
                data[draw.randrange(len(data))] = draw.randrange(256)
            documents, drops = read(write(tmp_path / "bad" / path.name, bytes(data)))
            assert documents or drops


# healthy files of which nothing comes out: pictures of text, and empty ones
NOTHING_TO_READ = {
    *("loremipsum-flat.pdf", "single_table.pdf", "table-multi-row-column-cells.pdf", "picture.pptx", "empty.xlsx"),
    *("test-image-jpg-mime.pptx", "empty.eml", "macros.tex"),
}
_SLOW_BYTES = 60_000  # of LaTeX, which takes some seconds per 100 kB
LOCKED = {"password.pdf", "password_protected.xlsx", "fake-encrypted.eml"}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.timeout(280)
def test_every_file_of_the_collection_gives_text_or_a_reason(shared_data: Path) -> None:
    source = Source(path=str(shared_data / "formats"))
    seen: Counter[str] = Counter()
    for file in list_files("formats", source):
        if file.path.endswith(".tex") and file.size_bytes > _SLOW_BYTES:
            continue
        items = list(extract(file, source))
        assert items, file.path
        name = Path(file.path).name
        reasons = {item.reason for item in items if not isinstance(item, Document)}
        texts = [item.text for item in items if isinstance(item, Document)]
        seen["files"] += 1
        if name in NOTHING_TO_READ:
            assert reasons == {"empty"}, name
        elif name in LOCKED:
            assert reasons == {"encrypted"}, name
        elif not texts:
            assert reasons == {"no_text_field"}, (name, reasons)
            assert Path(name).suffix in (".csv", ".tsv", ".jsonl", ".ndjson"), name
        else:
            assert reasons <= {"empty", "broken_line", "no_text_field"}, (name, reasons)
            assert not [text for text in texts if "\0" in text or "\ue0ff" in text], name
    assert seen["files"] > 150
