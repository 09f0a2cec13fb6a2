"""The two nouns that pass down the corpus pipeline: a document, and the record of text that left it.

Every byte that is read ends as one or the other, so that bytes read = bytes kept + bytes dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from blake3 import blake3

EXCERPT_CHARACTERS = 200


@dataclass(slots=True)
class Document:
    """One unit of text on its way from a source to a token dataset.

    Attributes:
        id: `document_id(source, origin)`; the same in every run.
        text: the text itself, valid Unicode.
        source: name of the source that it comes from.
        origin: where it stands there: `path#member:line`, of which member and line may be missing.
        text_bytes: size of the text as UTF-8, which many ask for and which takes as long as encoding it.
    """

    id: str
    text: str
    source: str
    origin: str
    text_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Measure the text, which nobody changes."""
        self.text_bytes = text_bytes(self.text)


@dataclass(frozen=True, slots=True)
class Drop:
    """Text that left the pipeline, with the step that dropped it and why.

    Attributes:
        id: id of the document that it was, or would have been.
        source: name of the source that it comes from.
        origin: where it stands there, as in `Document`.
        step: step of the pipeline that dropped it: `extract`, `clean`, `dedup`, ...
        reason: short code from the step's closed set.
        text_bytes: size of what was lost: UTF-8 bytes of text, or bytes of the file that could not be read.
        excerpt: its beginning, or a sentence that says what went wrong.
    """

    id: str
    source: str
    origin: str
    step: str
    reason: str
    text_bytes: int
    excerpt: str


def document_id(source: str, origin: str) -> str:
    """Stable id of the document at `origin` of `source`: 32 hexadecimal digits of BLAKE3."""
    return str(blake3(f"{source}\0{origin}".encode("utf-8", "surrogatepass")).hexdigest(length=16))


def make_document(text: str, source: str, origin: str) -> Document:
    """A document whose id follows from where it stands."""
    return Document(document_id(source, origin), text, source, origin)


def text_bytes(text: str) -> int:
    """Size of a text as UTF-8, in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def excerpt(text: str) -> str:
    """The beginning of a text on one line, for people who look at what was dropped."""
    head = " ".join(text[: 4 * EXCERPT_CHARACTERS].split())
    head = head.encode("utf-8", "replace").decode("utf-8")
    return head if len(head) <= EXCERPT_CHARACTERS else head[: EXCERPT_CHARACTERS - 1] + "…"


def drop(document: Document, step: str, reason: str, detail: str | None = None) -> Drop:
    """The record that a document leaves the pipeline at `step`; `detail` stands in place of its beginning."""
    said = excerpt(document.text if detail is None else detail)
    return Drop(document.id, document.source, document.origin, step, reason, document.text_bytes, said)
