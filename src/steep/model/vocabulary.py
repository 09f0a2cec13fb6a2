"""The tokenizer beside a model, as generating needs it: a start token, an end token, text to ids and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steep.artifacts.special_tokens import find_special_tokens
from steep.model.files import find_model
from steep.spec.errors import InvalidModel

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer.

    Args:
        eos_id: ends every document.
        start_id: what a document is begun with: BOS where the tokenizer itself puts one, else EOS.
        size: one more than the largest id.
    """

    eos_id: int
    start_id: int
    size: int
    _tokenizer: Any

    @classmethod
    def load(cls, model: str) -> Vocabulary:
        """The tokenizer of a directory or a hub id.

        Raises:
            InvalidModel: it is not there, cannot be read, or names no end of a text.
        """
        from tokenizers import Tokenizer

        directory = find_model(model)
        path = directory / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise InvalidModel(
                f"is no tokenizer that can be loaded ({error})", where=str(path), cure="Fetch the model again."
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        special = find_special_tokens(directory, tokenizer)
        ids = tokenizer.get_vocab(with_added_tokens=True)
        return cls(special.eos_id, special.start_id, max(ids.values()) + 1, tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of a text that begins a document: the start token first, no EOS last."""
        return [self.start_id, *self._tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def name(self, token: int) -> str:
        """What the vocabulary calls a token, special ones too."""
        return str(self._tokenizer.id_to_token(token) or "")
