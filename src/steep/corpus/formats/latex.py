"""LaTeX: the words of the body, sections as headings; formulas, references and citations as they were typed."""

from __future__ import annotations

import re
from typing import Any

from steep.corpus.formats.encoding import decode
from steep.corpus.formats.markdown import fenced, table, tidy

_BODY = re.compile(r"\\begin\s*\{document\}(.*?)(?:\\end\s*\{document\}|\Z)", re.DOTALL)
_TITLE = re.compile(r"\\title\s*(?:\[[^\]]*\])?\s*\{")
_MACRO = re.compile(r"\\([A-Za-z@]+)")
_DEFINITION = re.compile(r"\\(?:def|let|(?:re)?newcommand|newenvironment|DeclareMathOperator|newtheorem)\b")
_DEFINITION_CHARACTERS = 400  # a file with more definitions than one in so many is a style, not a text
_HEADINGS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5}
_DROPPED = re.compile(
    r"index\w*|(?:re)?newcommand|providecommand|newenvironment|newtheorem|setcounter|addtocounter|setlength|vspace"
    r"|hspace|label|sym\w*label|input|include|includegraphics|bibliography(?:style)?|usepackage|pagestyle"
    r"|thispagestyle|pagenumbering|addcontentsline|markboth|markright|hypersetup|graphicspath|color"
    r"|cline"
)
_DROPPED_BARE = (
    *("maketitle", "tableofcontents", "clearpage", "newpage", "cleardoublepage", "phantomsection"),
    *("centering", "hline", "toprule", "midrule", "bottomrule"),
)
_NOTHING = "\ue0ff"  # stands where something was left out, so that a line that held nothing else goes too
_EMPTIED_LINES = re.compile(rf"^(?=.*{_NOTHING})[ \t{_NOTHING}]*\n", re.MULTILINE)
_AS_TYPED = re.compile(r"\w*ref|\w*cite\w*|url|nolinkurl")
_DROPPED_ENVIRONMENTS = ("thebibliography", "tikzpicture", "pgfpicture", "filecontents", "comment")
_CODE_ENVIRONMENTS = ("verbatim", "lstlisting", "minted", "Verbatim", "alltt")
_THEOREMS = dict.fromkeys(("theorem", "thm"), "Theorem") | dict.fromkeys(("lemma", "lem"), "Lemma")
_THEOREMS |= dict.fromkeys(("proposition", "prop"), "Proposition") | dict.fromkeys(("corollary", "cor"), "Corollary")
_THEOREMS |= dict.fromkeys(("definition", "defn", "defi"), "Definition") | dict.fromkeys(("remark", "rmk"), "Remark")
_THEOREMS |= {"example": "Example", "proof": "Proof", "conjecture": "Conjecture", "exercise": "Exercise"}
_TABLES = {"tabular": "[{", "tabular*": "{[{", "tabularx": "{[{", "longtable": "[{"}
_ARGUMENTS = {
    "newtheorem": "*{[{[",
    "newenvironment": "{[[{{",
    "setlength": "{{",
    "setcounter": "{{",
    "addtocounter": "{{",
}
_ARGUMENTS |= {"addcontentsline": "{{{", "markboth": "{{", "includegraphics": "[{", "usepackage": "[{", "hspace": "*{"}
_ARGUMENTS |= {"vspace": "*{", "color": "[{", "newcommand": "*{[[{"}
_ARGUMENTS |= {"renewcommand": "*{[[{", "providecommand": "*{[[{"}


def read_latex(data: bytes, encoding: str | None) -> str:
    """The text of a document, or of a part of one. Macros of its own are not expanded."""
    source = decode(data, encoding).replace("\r\n", "\n")
    body = _BODY.search(source)
    if body is None:
        is_code = len(_DEFINITION.findall(source)) * _DEFINITION_CHARACTERS > len(source)
        return "" if is_code else _text(source)
    title = _TITLE.search(source)
    heading = _text(_group(source, title.end())) if title else ""
    return tidy(f"# {heading}\n\n{_text(body[1])}" if heading else _text(body[1]))


def _group(source: str, start: int) -> str:
    """What stands between a brace that was opened before `start` and the one that closes it."""
    depth = 1
    for brace in re.finditer(r"(?<!\\)[{}]", source[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return source[start : start + brace.start()]
    return ""


def _text(source: str) -> str:
    from pylatexenc.latex2text import LatexNodes2Text
    from pylatexenc.latexwalker import LatexWalker

    macros = frozenset(_MACRO.findall(source))
    walker = LatexWalker(source, latex_context=_grammar(macros), tolerant_parsing=True)
    writer = LatexNodes2Text(
        latex_context=_words(macros), math_mode="verbatim", keep_comments=False, strict_latex_spaces=False
    )
    text = writer.nodelist_to_text(walker.get_latex_nodes()[0])
    return tidy(_EMPTIED_LINES.sub("", text).replace(_NOTHING, ""))


def _grammar(macros: frozenset[str]) -> Any:
    """Which arguments macros take, beyond those that the parser knows."""
    from pylatexenc.latexwalker import get_default_latex_context_db
    from pylatexenc.macrospec import EnvironmentSpec, MacroSpec, VerbatimArgsParser

    known = get_default_latex_context_db()
    ours = [MacroSpec(name, _ARGUMENTS.get(name, "{")) for name in macros if _DROPPED.fullmatch(name)]
    ours += [MacroSpec(name, "") for name in _DROPPED_BARE]
    ours += [MacroSpec(name, "*[[{") for name in macros if _AS_TYPED.fullmatch(name)]
    ours += [MacroSpec(name, "*[{") for name in _HEADINGS]
    code = [
        EnvironmentSpec(name, args_parser=VerbatimArgsParser(verbatim_arg_type="verbatim-environment"))
        for name in ("Verbatim", "minted", "comment")
    ]
    code += [EnvironmentSpec(name, "[") for name in _THEOREMS] + [EnvironmentSpec(*each) for each in _TABLES.items()]
    known.add_context_category("steep", prepend=True, macros=ours, environments=code)
    return known


def _words(macros: frozenset[str]) -> Any:
    """How nodes are written."""
    from pylatexenc.latex2text import EnvironmentTextSpec, MacroTextSpec, get_default_latex_context_db

    known = get_default_latex_context_db()
    ours = [MacroTextSpec(name, simplify_repl=_NOTHING) for name in macros if _DROPPED.fullmatch(name)]
    ours += [MacroTextSpec(name, simplify_repl=_NOTHING) for name in _DROPPED_BARE]
    ours += [MacroTextSpec(name, simplify_repl=_as_typed) for name in macros if _AS_TYPED.fullmatch(name)]
    ours += [MacroTextSpec(name, simplify_repl=_heading) for name in _HEADINGS]
    ours += [MacroTextSpec("item", simplify_repl=_item)]
    environments = [EnvironmentTextSpec(name, discard=True) for name in _DROPPED_ENVIRONMENTS]
    environments += [EnvironmentTextSpec(name, simplify_repl=_code) for name in _CODE_ENVIRONMENTS]
    environments += [EnvironmentTextSpec("abstract", simplify_repl="\n\n## Abstract\n\n%s\n\n")]
    environments += [EnvironmentTextSpec(name, simplify_repl=_theorem) for name in _THEOREMS]
    environments += [EnvironmentTextSpec(name, simplify_repl=_tabular) for name in _TABLES]
    known.add_context_category("steep", prepend=True, macros=ours, environments=environments)
    return known


def _as_typed(node: Any) -> str:
    return str(node.latex_verbatim())


def _heading(node: Any, l2tobj: Any) -> str:
    words = " ".join(l2tobj.nodelist_to_text([node.nodeargd.argnlist[-1]]).split())
    return f"\n\n{'#' * _HEADINGS[node.macroname]} {words}\n\n"


def _item(node: Any, l2tobj: Any) -> str:
    label = node.nodeargd.argnlist[0] if node.nodeargd and node.nodeargd.argnlist else None
    return "- " + (l2tobj.nodelist_to_text([label]) + " " if label is not None else "")


def _theorem(node: Any, l2tobj: Any) -> str:
    said = node.nodeargd.argnlist[0] if node.nodeargd and node.nodeargd.argnlist else None
    name = f" ({l2tobj.nodelist_to_text([said])})" if said is not None else ""
    return f"\n\n{_THEOREMS[node.environmentname]}{name}. {l2tobj.nodelist_to_text(node.nodelist).strip()}\n\n"


def _tabular(node: Any, l2tobj: Any) -> str:
    rows: list[list[list[Any]]] = [[[]]]
    for child in node.nodelist:
        if getattr(child, "specials_chars", None) == "&":
            rows[-1].append([])
        elif getattr(child, "macroname", None) in ("\\", "tabularnewline"):
            rows.append([[]])
        else:
            rows[-1][-1].append(child)
    cells = [[l2tobj.nodelist_to_text(cell).replace(_NOTHING, "") for cell in row] for row in rows]
    return f"\n\n{table(cells)}\n\n"


def _code(node: Any) -> str:
    inner = re.sub(r"\A\\begin\{\w+\}(?:\[[^\]]*\])?(?:\{\w+\})?|\\end\{\w+\}\Z", "", node.latex_verbatim())
    return "\n\n" + fenced(inner) + "\n\n"
