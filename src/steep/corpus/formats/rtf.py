"""Rich text."""

from __future__ import annotations

from steep.corpus.formats.content import Unreadable
from steep.corpus.formats.markdown import tidy


def read_rtf(data: bytes, encoding: str | None) -> str:
    """The document's text. Raises Unreadable when it is no RTF."""
    from striprtf.striprtf import rtf_to_text

    if not data.lstrip().startswith(b"{\\rtf"):
        raise Unreadable("corrupt", "does not begin as RTF does")
    # RTF is ASCII that spells out its other characters itself; a stray byte is in the code page that it names
    return tidy(rtf_to_text(data.decode("latin-1"), encoding=encoding or "cp1252", errors="replace"))
