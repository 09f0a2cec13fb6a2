"""The accounting of a corpus: where every byte that was read and every token that was made has gone.

bytes read = bytes kept + bytes dropped, by reason + bytes changed by cleaning + bytes not needed to measure forgetting
tokens of text + tokens that end (and begin) documents = tokens trained + held out + for replay + for forgetting
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from steep.spec.units import format_bytes

TINY_HOLDOUT_BYTES = 20_000
POOR_BYTES_PER_TOKEN = 2.2  # English has about 4.3 with a large vocabulary; half of that doubles the cost of every byte
DROWNED_SHARE = 0.01
MUCH_DROPPED = 0.5


@dataclass(slots=True)
class SourceSums:
    """One source's row. Every sum is counted where it arises, not derived from the others, so that they prove each other.

    Attributes:
        role: `corpus`, `replay` or `general`.
        files: files listed.
        documents_read: documents that came out of them.
        documents_kept: those of them that are in a token dataset, whole or in pieces.
        bytes_read: of text, and of files or lines that could not be read.
        bytes_changed: that cleaning took out of texts that it kept; less than none where it added some.
        bytes_dropped: of documents, lines and files that left.
        bytes_trained: of text to train on.
        bytes_held_out: of text to measure on.
        bytes_not_scored: of text for measuring forgetting beyond what `max_tokens` scores.
        tokens_trained: ids to train on, with those that end documents.
        tokens_held_out: ids to measure on, likewise.
        tokens_added: of both, those that begin and end documents.
    """

    role: str
    files: int = 0
    documents_read: int = 0
    documents_kept: int = 0
    bytes_read: int = 0
    bytes_changed: int = 0
    bytes_dropped: int = 0
    bytes_trained: int = 0
    bytes_held_out: int = 0
    bytes_not_scored: int = 0
    tokens_trained: int = 0
    tokens_held_out: int = 0
    tokens_added: int = 0

    @property
    def bytes_kept(self) -> int:
        """Bytes of text in token datasets."""
        return self.bytes_trained + self.bytes_held_out

    @property
    def bytes_unexplained(self) -> int:
        """What is missing in the sums: always 0."""
        return self.bytes_read - self.bytes_kept - self.bytes_dropped - self.bytes_changed - self.bytes_not_scored

    @property
    def bytes_per_token(self) -> float | None:
        """Fertility: bytes of text for each token of text."""
        tokens = self.tokens_trained + self.tokens_held_out - self.tokens_added
        return self.bytes_kept / tokens if tokens else None


@dataclass(slots=True)
class Ledger:
    """All sums of a corpus while it is prepared.

    Attributes:
        sources: a row for each.
        dropped: documents and bytes by `step: reason`.
        languages: documents of a sample by language.
        engine: which tokenizer's engine encoded.
    """

    sources: dict[str, SourceSums]
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    engine: str = ""

    def drop(self, source: str, step: str, reason: str, documents: int, text_bytes: int) -> None:
        """Count documents that were dropped."""
        row = self.dropped.setdefault(f"{step}: {reason}", {"documents": 0, "text_bytes": 0})
        row["documents"] += documents
        row["text_bytes"] += text_bytes
        self.sources[source].bytes_dropped += text_bytes

    def totals(self) -> SourceSums:
        """The sum over all sources."""
        total = SourceSums("all")
        for row in self.sources.values():
            for each in fields(row):
                if each.name != "role":
                    setattr(total, each.name, getattr(total, each.name) + getattr(row, each.name))
        return total

    def report(self) -> dict[str, Any]:
        """What `accounting.json` holds."""
        total = self.totals()
        roles = {
            role: [row for row in self.sources.values() if row.role == role] for role in ("corpus", "replay", "general")
        }
        return {
            "documents_read": total.documents_read,
            "documents_kept": total.documents_kept,
            "documents_dropped": sum(row["documents"] for row in self.dropped.values()),
            "bytes_read": total.bytes_read,
            "bytes_kept": total.bytes_kept,
            "bytes_dropped": total.bytes_dropped,
            "bytes_changed_by_cleaning": total.bytes_changed,
            "bytes_not_scored": total.bytes_not_scored,
            "bytes_unexplained": total.bytes_unexplained,
            "bytes_per_token": total.bytes_per_token,
            "tokens": {
                "of_text": total.tokens_trained + total.tokens_held_out - total.tokens_added,
                "of_document_ends": total.tokens_added,
                "trained": sum(row.tokens_trained for row in roles["corpus"]),
                "replay": sum(row.tokens_trained for row in roles["replay"]),
                "held_out_domain": sum(row.tokens_held_out for row in roles["corpus"]),
                "held_out_general": sum(row.tokens_held_out for row in (*roles["replay"], *roles["general"])),
            },
            "duplicates": {
                name: self.dropped.get(f"dedup: {reason}", {"documents": 0, "text_bytes": 0})
                for name, reason in (("exact", "exact_copy"), ("near", "near_copy"))
            },
            "dropped": dict(sorted(self.dropped.items(), key=lambda item: (-item[1]["text_bytes"], item[0]))),
            "languages": self.languages,
            "tokenizer_engine": self.engine,
            "sources": {name: _row(row) for name, row in self.sources.items()},
        }


def warnings(ledger: Ledger, weights: Mapping[str, float]) -> list[str]:
    """What people should know about their corpus before they train on it.

    Args:
        ledger: the sums.
        weights: of the corpus sources, by name.
    """
    corpus = {name: row for name, row in ledger.sources.items() if row.role == "corpus"}
    found = [*_about_holdout(corpus), *_about_shares(corpus, weights)]
    for name, row in ledger.sources.items():
        if row.bytes_dropped > MUCH_DROPPED * row.bytes_read:
            found.append(
                f"{row.bytes_dropped / row.bytes_read:.0%} of the text of {name} was dropped; look at the reasons in the accounting"
            )
        per_token = row.bytes_per_token
        if per_token is not None and per_token < POOR_BYTES_PER_TOKEN and row.role == "corpus":
            found.append(
                f"the tokenizer suits {name} poorly: {per_token:.2f} bytes per token, so its text costs more tokens than most; "
                "a base whose tokenizer knows this kind of text would learn it cheaper"
            )
    return found


def _about_holdout(corpus: Mapping[str, SourceSums]) -> Iterable[str]:
    held = sum(row.bytes_held_out for row in corpus.values())
    if not held:
        yield "no text is held out, so what is learned cannot be measured; raise corpus.holdout, or give more documents"
    elif held < TINY_HOLDOUT_BYTES:
        yield f"only {format_bytes(held)} of text are held out, so the measured gain is rough; raise corpus.holdout"


def _about_shares(corpus: Mapping[str, SourceSums], weights: Mapping[str, float]) -> Iterable[str]:
    parts = {name: row.tokens_trained * weights.get(name, 1.0) for name, row in corpus.items()}
    total = sum(parts.values())
    for name, part in parts.items():
        if not part:
            yield f"nothing of {name} is left to train on; look at the reasons in the accounting"
        elif part < DROWNED_SHARE * total:
            yield f"{name} is only {part / total:.2%} of what is trained on; give it more weight if it matters"


def _row(row: SourceSums) -> dict[str, Any]:
    """What people look at of one source."""
    return {
        "role": row.role,
        "files": row.files,
        "documents": row.documents_kept,
        "bytes_read": row.bytes_read,
        "bytes_kept": row.bytes_kept,
        "bytes_dropped": row.bytes_dropped,
        "tokens": row.tokens_trained + row.tokens_held_out,
        "bytes_per_token": row.bytes_per_token,
    }
