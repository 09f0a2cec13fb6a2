"""One reader a format, found by name and loaded when first needed; and the guard around code that is not ours.

To add a format: its endings in `registry.py`, its reader in a file of its own, and its line here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from types import FrameType
from typing import Any

from steep.corpus.formats.content import Content, Unreadable
from steep.spec.errors import SteepError

STREAM_READERS = {"text": "text:read_text", "code": "text:read_text"}
RECORD_READERS = {
    "jsonl": "jsonl:read_jsonl",
    "json": "json:read_json",
    "csv": "csv:read_csv",
    "parquet": "parquet:read_parquet",
}
WHOLE_READERS = {
    "latex": "latex:read_latex",
    "html": "html:read_html",
    "xml": "xml:read_xml",
    "pdf": "pdf:read_pdf",
    "docx": "docx:read_docx",
    "pptx": "pptx:read_pptx",
    "sheet": "sheet:read_sheet",
    "odt": "odt:read_odt",
    "rtf": "rtf:read_rtf",
    "epub": "epub:read_epub",
    "notebook": "notebook:read_notebook",
    "mail": "mail:read_mail",
}
_STDERR = 2
MAX_SECONDS = 300.0  # for one file of a format that is read whole


class _TimeIsUp(BaseException):
    """Not an Exception, so that no extractor takes it for one of its own."""


def guarded_text(reader: str, data: bytes, encoding: str | None, *, max_seconds: float = MAX_SECONDS) -> str:
    """The text that a reader of a whole format makes of a file's bytes, with nothing printed.

    Raises:
        Unreadable: there is no text to be had, or the extractor failed, in whatever way.
    """
    read = _load(reader)
    try:
        with _quiet(), _time_limit(max_seconds):
            return str(read(data, encoding))
    except _TimeIsUp:
        raise Unreadable("too_slow", f"took over {max_seconds:g} seconds to read") from None
    except Exception as error:  # extractors fail on odd files in every way there is, and the next file is fine
        raise _unreadable(error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what a failure in Rust comes as, which is no Exception
            raise
        raise Unreadable("corrupt", f"cannot be read: {error}") from error


def guarded_items(reader: str, content: Content, how: Any) -> Iterator[Any]:
    """The items of a reader that streams, one by one. Raises as `guarded_text`, and InvalidCorpus."""
    items = _load(reader)(content, how)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except Exception as error:
            raise _unreadable(error) from error
        yield item


def _load(reader: str) -> Callable[..., Any]:
    module, _, function = reader.partition(":")
    loaded: Callable[..., Any] = getattr(import_module(f"steep.corpus.formats.{module}"), function)
    return loaded


def _unreadable(error: Exception) -> Exception:
    """What a reader's failure means: errors of our own as they are, every other one that the file is damaged."""
    if isinstance(error, (Unreadable, SteepError)):
        return error
    if isinstance(error, MemoryError):
        return Unreadable("too_large", "there is not enough memory to read it")
    first = str(error).strip().partition("\n")[0]
    return Unreadable("corrupt", f"cannot be read: {first or type(error).__name__}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep extractors from printing, warning and logging; what they have to say comes back as an error or not at all."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _silent_descriptor():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _silent_descriptor() -> Iterator[None]:
    """Turn away what is written to the descriptor of errors itself, as code does that is not Python's."""
    try:
        kept = os.dup(_STDERR)
    except OSError:  # a process without one
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _TimeIsUp in the block after so long, and again each second in case it was swallowed.

    It reaches Python code only, and only in a process's main thread where nobody else has set the alarm; elsewhere there
    is no limit.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getitimer(signal.ITIMER_REAL)[0] > 0:
        yield
        return

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
