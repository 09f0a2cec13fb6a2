"""The tokenizer beside a model, as generating needs it: a start token, an end token, text to ids and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steep.model.files import find_model, read_json
from steep.spec.errors import InvalidModel

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETTINGS = ("generation_config.json", "config.json", "special_tokens_map.json", "tokenizer_config.json")


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
        settings = _settings(directory)
        ids = tokenizer.get_vocab(with_added_tokens=True)
        eos_id = _named(settings, "eos", ids)
        if eos_id is None:
            raise InvalidModel(
                "names no end-of-text token that its vocabulary holds",
                where=str(directory),
                cure="Set eos_token in tokenizer_config.json.",
            )
        return cls(eos_id, _start_id(tokenizer, settings, ids, eos_id), max(ids.values()) + 1, tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of a text that begins a document: the start token first, no EOS last."""
        return [self.start_id, *self._tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def _settings(directory: Path) -> dict[str, Any]:
    """All settings that name special tokens, the most authoritative last."""
    merged: dict[str, Any] = {}
    for name in _SETTINGS:
        if (directory / name).exists():
            found = read_json(directory / name)
            found = {**(found.get("text_config") or {}), **found}
            merged |= {key: value for key, value in found.items() if value is not None}
    return merged


def _named(settings: dict[str, Any], role: str, ids: dict[str, int]) -> int | None:
    """Id of the token in a role, by its text, else by its number."""
    token = settings.get(f"{role}_token")
    text = token.get("content") if isinstance(token, dict) else token
    if isinstance(text, str) and text in ids:
        return ids[text]
    number = settings.get(f"{role}_token_id")
    number = number[0] if isinstance(number, list) and number else number
    return number if isinstance(number, int) and number in ids.values() else None


def _start_id(tokenizer: Any, settings: dict[str, Any], ids: dict[str, int], eos_id: int) -> int:
    """What the tokenizer puts before a text, if that is its BOS; else EOS."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    added = tokenizer.encode("a", add_special_tokens=True).ids
    bos_id = _named(settings, "bos", ids)
    puts_one = added[:1] == [bos_id] and len(added) > len(bare) and added[:1] != bare[:1]
    if bos_id is not None and (puts_one or settings.get("add_bos_token") is True):
        return bos_id
    return eos_id
