"""Text that every Python installation has: the language reference, library docstrings, library sources."""

from __future__ import annotations

import ast
import shutil
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from steep.artifacts.files import full_disk_stops, hash_text
from steep.spec.errors import InvalidCorpus

DOCSTRING_BYTES = 1_600_000
SOURCE_BYTES = 1_200_000
MIN_DOCSTRING_CHARACTERS = 40
MIN_TOTAL_BYTES = 300_000
LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "encodings",
    "pydoc_data",
    "turtledemo",
}


def gather(out: Path) -> int:
    """Write the text into `out`, one folder a kind; whole or not at all. Returns the bytes, 0 when it was there.

    The choice depends on the Python installation alone, so gathering again gives the same files.

    Raises:
        InvalidCorpus: this Python comes without its library's sources.
    """
    if out.is_dir():
        return 0
    staging = out.with_name(f".{out.name}.gathering")
    shutil.rmtree(staging, ignore_errors=True)
    with full_disk_stops(out):
        total = _write(staging / "reference", reference())
        modules = _library()
        shown, told = modules[::4], [module for i, module in enumerate(modules) if i % 4]  # no module in both kinds
        total += _write(staging / "docstrings", _capped(docstrings(told), DOCSTRING_BYTES))
        total += _write(staging / "sources", _capped(sources(shown), SOURCE_BYTES))
        if total < MIN_TOTAL_BYTES:
            raise InvalidCorpus(
                f"this Python holds only {total:,} bytes of documentation and sources",
                where=sysconfig.get_path("stdlib"),
                cure="Use a Python with its standard library in source form.",
            )
        staging.rename(out)
    return total


def reference() -> Iterator[tuple[str, str]]:
    """The chapters of the language reference that `help()` shows, by topic."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out; docstrings and sources remain
        return
    for name, text in sorted(topics.items()):
        yield f"{name}.txt", text


def docstrings(modules: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The docstrings of each module, each under the name of what it documents."""
    for name, text in modules:
        documented = "\n\n".join(_documented(name, text))
        if documented:
            yield f"{name}.txt", documented + "\n"


def sources(modules: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The modules themselves."""
    for name, text in modules:
        yield f"{name}.py", text


def _documented(name: str, text: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        doc = ast.get_docstring(node)
        if doc is None or len(doc) < MIN_DOCSTRING_CHARACTERS:
            continue
        if isinstance(node, ast.Module):
            title = f"module {name}"
        elif isinstance(node, ast.ClassDef):
            title = f"class {node.name}"
        else:
            title = f"{node.name}({ast.unparse(node.args)})"
        yield f"{title}\n\n{doc}"


def _library() -> list[tuple[str, str]]:
    """Dotted names and texts of the standard library's modules, in a stable order that mixes them well."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        if LEFT_OUT.intersection(parts) or any(not part.removesuffix(".py").isidentifier() for part in parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a module in an old encoding, or one that may not be read; there are plenty of others
        modules.append((".".join(parts).removesuffix(".py").removesuffix(".__init__"), text))
    return sorted(modules, key=lambda module: hash_text(module[0]))


def _capped(files: Iterable[tuple[str, str]], most_bytes: int) -> Iterator[tuple[str, str]]:
    """Whole files until there is enough; one that is too large for what is left is passed over."""
    left = most_bytes
    for name, text in files:
        size = len(text.encode("utf-8"))
        if size <= left:
            left -= size
            yield name, text
        if left < most_bytes // 100:
            return


def _write(directory: Path, files: Iterable[tuple[str, str]]) -> int:
    directory.mkdir(parents=True)
    total = 0
    for name, text in files:
        total += (directory / name).write_bytes(text.encode("utf-8"))
    return total
