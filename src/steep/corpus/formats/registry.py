"""Which format a file is in: by the end of its name, and by its first bytes where the name does not say.

One table per kind. A format is a name; `extract.py` knows which function reads it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

FORMATS: dict[str, tuple[str, ...]] = {
    "text": (
        *("txt", "text", "md", "markdown", "mdx", "mdown", "rst", "rest", "adoc", "asciidoc", "org", "textile", "wiki"),
        *("srt", "vtt", "po", "pot", "man", "log"),
    ),
    "code": (
        *("py", "pyi", "pyx", "pxd", "rb", "pl", "pm", "php", "lua", "tcl", "r", "jl", "m", "nb", "wl", "sage"),
        *("js", "mjs", "cjs", "jsx", "ts", "tsx", "vue", "svelte", "css", "scss", "sass", "less"),
        *("c", "h", "cc", "cpp", "cxx", "hpp", "hh", "hxx", "cu", "cuh", "ino", "cs", "fs", "fsx", "vb", "swift", "mm"),
        *("java", "kt", "kts", "scala", "groovy", "gradle", "clj", "cljs", "go", "rs", "zig", "nim", "d", "dart", "v"),
        *("hs", "lhs", "ml", "mli", "elm", "ex", "exs", "erl", "hrl", "lisp", "lsp", "el", "scm", "rkt", "coq", "lean"),
        *("agda", "pas", "pp", "f", "for", "f77", "f90", "f95", "f03", "f08", "cob", "cbl", "ada", "adb", "ads", "asm"),
        *(
            "s",
            "sv",
            "svh",
            "vhd",
            "vhdl",
            "sol",
            "vy",
            "move",
            "sh",
            "bash",
            "zsh",
            "fish",
            "ps1",
            "psm1",
            "bat",
            "awk",
        ),
        *("sql", "graphql", "gql", "proto", "thrift", "cmake", "mk", "bzl", "nix", "tf", "hcl", "dockerfile", "jinja"),
        *("j2", "yaml", "yml", "toml", "ini", "cfg", "conf", "properties", "diff", "patch", "bib"),
    ),
    "latex": ("tex", "latex", "ltx"),
    "html": ("html", "htm", "xhtml", "shtml"),
    "xml": ("xml", "nxml", "jats", "tei"),
    "pdf": ("pdf",),
    "docx": ("docx", "docm"),
    "pptx": ("pptx", "pptm", "ppsx"),
    "sheet": ("xlsx", "xlsm", "xlsb", "xls", "ods"),
    "odt": ("odt", "ott", "odp"),
    "rtf": ("rtf",),
    "epub": ("epub",),
    "notebook": ("ipynb",),
    "mail": ("eml",),
    "jsonl": ("jsonl", "ndjson", "jsonlines"),
    "json": ("json",),
    "csv": ("csv", "tsv", "tab"),
    "parquet": ("parquet", "pq"),
}
COMPRESSIONS = ("gz", "bz2", "xz", "lzma", "zst", "zstd")
SHORT_NAMES = {"tgz": "gz", "tbz2": "bz2", "tbz": "bz2", "txz": "xz", "tzst": "zst"}  # a compressed tar in one word
ARCHIVES = ("zip", "tar")
# well-known names of text files that have no ending
PLAIN_NAMES = frozenset(
    (
        *("readme", "license", "licence", "copying", "authors", "contributors", "contributing", "changelog", "changes"),
        *("news", "history", "todo", "notice", "install", "makefile", "dockerfile", "rakefile", "gemfile"),
        *("vagrantfile", "jenkinsfile"),
    )
)
RECORD_FORMATS = frozenset(("jsonl", "json", "csv", "parquet"))

_BY_SUFFIX = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "pdf"),
    (b"PAR1", "parquet"),
    (b"{\\rtf", "rtf"),
    (b"\x1f\x8b", "gz"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# what the first members of these archives are called, or hold
_ZIP_CONTENT = (
    (b"mimetypeapplication/epub+zip", "epub"),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "sheet"),
    (b"mimetypeapplication/vnd.oasis.opendocument", "odt"),
    *((b"\0word/", "docx"), (b"\0ppt/", "pptx"), (b"\0xl/", "sheet")),
)
_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Office before 2007, and whatever Office encrypts
# formats that are a zip or OLE file inside
_CONTAINERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("docx", "pptx", "odt", "epub"), ("zip", "ole")),
    "sheet": ("zip", "ole"),
    **{"lzma": ("xz",), "zstd": ("zst",)},
}
_HTML = re.compile(rb"<!doctype html|<html[\s>]|<head[\s>]|<body[\s>]", re.IGNORECASE)


def suffixes(name: str) -> list[str]:
    """The ends of a file's name that matter, last first, in lower case: `a.jsonl.gz` -> `["gz", "jsonl"]`."""
    parts = PurePosixPath(name.replace("\\", "/")).name.lower().split(".")[1:][::-1]
    if parts and parts[0] in SHORT_NAMES:
        parts = [SHORT_NAMES[parts[0]], "tar", *parts[1:]]
    return parts


def format_by_name(name: str) -> str | None:
    """The format that a file's name says: one of `FORMATS`, `COMPRESSIONS` or `ARCHIVES`; None when it says nothing."""
    ends = suffixes(name)
    if not ends:
        return "text" if PurePosixPath(name).name.lower() in PLAIN_NAMES else None
    if ends[0] in COMPRESSIONS or ends[0] in ARCHIVES:
        return ends[0]
    return _BY_SUFFIX.get(ends[0])


def is_known(name: str) -> bool:
    """Whether a file of this name is taken from a directory without being asked for by name.

    A compressed file counts when what is below the compression does.
    """
    while (kind := format_by_name(name)) in COMPRESSIONS:
        name = without_compression(name)
    return kind is not None


def without_compression(name: str) -> str:
    """A compressed file's name without the end that says so: `a.jsonl.gz` -> `a.jsonl`, `a.tgz` -> `a.tar`."""
    stem, _, end = name.rpartition(".")
    if not stem:
        return name
    return f"{stem}.tar" if end.lower() in SHORT_NAMES else stem


def binary_by_content(head: bytes) -> str | None:
    """Which binary format a file's first bytes say for certain: a name of `_MAGIC`, `zip`, `ole` or None."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return "zip" if head.startswith(_ZIP_MAGIC) else "ole" if head.startswith(_OLE_MAGIC) else None


def contradicts(kind: str, head: bytes) -> str | None:
    """What a file is by its first bytes, when it cannot be what its name says; None when it can."""
    found = binary_by_content(head)
    if found in (None, kind) or found in _CONTAINERS.get(kind, ()):
        return None
    if found in ("bz2", "rtf") and kind in ("text", "code", "latex"):  # a text may begin with these letters
        return None if b"\0" not in head else found
    return found


def format_by_content(head: bytes) -> str | None:
    """The format that a file's first bytes say, where its name did not; None for bytes that are no text either."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(_ZIP_MAGIC):
        return next((name for mark, name in _ZIP_CONTENT if mark in head), "zip")
    if head[257:262] == b"ustar":
        return "tar"
    start = head[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if _HTML.search(start[:1024]):
        return "html"
    if start.startswith(b"<?xml"):
        return "xml"
    if start.startswith((b'{"', b"{ ")) and b'"' in start[:4]:
        return "jsonl"
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    return "text" if utf16 or b"\0" not in head else None
