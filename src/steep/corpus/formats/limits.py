"""How much may come out of a packed file: a small one must not become endless text."""

from __future__ import annotations

from dataclasses import dataclass

from steep.corpus.formats.content import Unreadable

MAX_RATIO = 250  # the most that honest text is packed to
SAFE_BYTES = 64 << 20  # what may come out in any case


@dataclass(slots=True)
class Allowance:
    """How much may still come out of one file on disk, over all that is inside it."""

    packed_bytes: int
    spent_bytes: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether more came out than honest text makes."""
        return self.spent_bytes > max(SAFE_BYTES, MAX_RATIO * self.packed_bytes)

    def spend(self, num_bytes: int) -> None:
        """Count bytes that came out. Raises Unreadable when they are more than honest text makes."""
        self.spent_bytes += num_bytes
        if self.is_spent:
            raise Unreadable("archive_bomb", f"grows to over {MAX_RATIO} times its size; what came after is left out")
