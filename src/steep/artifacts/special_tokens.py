"""Which tokens begin and end a document, by the files beside a model: one rule for the corpus and for the model.

What a model generates from and is scored after must be what its training text began with, so the rule stands here once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steep.spec.errors import InvalidModel

SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json")
"""Files that name special tokens, the most authoritative first."""
_LARGEST_ID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The tokens around a document.

    Args:
        eos_id: ends every document.
        bos_id: the token that the tokenizer itself puts before a text, where that is not EOS.
    """

    eos_id: int
    bos_id: int | None

    @property
    def start_id(self) -> int:
        """What a document is begun with: BOS where there is one, else EOS."""
        return self.eos_id if self.bos_id is None else self.bos_id


def find_special_tokens(directory: Path, tokenizer: Any) -> SpecialTokens:
    """The tokens that the files in a directory name and its tokenizer holds.

    Args:
        directory: of the model, or of a tokenizer alone.
        tokenizer: its `tokenizers.Tokenizer`.

    Raises:
        InvalidModel: a file is no JSON, or none names an end-of-text token of the vocabulary.
    """
    settings = _settings(directory)
    eos_id = _token_id(settings, "eos", tokenizer)
    if eos_id is None:
        raise InvalidModel(
            "names no end-of-text token that its vocabulary holds",
            where=str(directory),
            cure="Set eos_token in tokenizer_config.json; every document ends with it.",
        )
    bos_id = _bos_id(settings, tokenizer)
    return SpecialTokens(eos_id, None if bos_id == eos_id else bos_id)


def _settings(directory: Path) -> dict[str, Any]:
    """All settings that name special tokens; what a more authoritative file says stands."""
    merged: dict[str, Any] = {}
    for name in reversed(SETTINGS_FILES):
        path = directory / name
        if path.exists():
            found = _read(path)
            text_config = found.get("text_config")
            found = {**(text_config if isinstance(text_config, dict) else {}), **found}
            merged.update({key: value for key, value in found.items() if value is not None})
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidModel(f"is not JSON ({error})", where=str(path), cure="Fetch the base model again.") from None
    if not isinstance(found, dict):
        raise InvalidModel("holds no JSON object", where=str(path), cure="Fetch the base model again.")
    return found


def _token_id(settings: dict[str, Any], role: str, tokenizer: Any) -> int | None:
    """Id of the token in a role ("eos", "bos"), by its text, else by its number."""
    token = settings.get(f"{role}_token")
    text = token.get("content") if isinstance(token, dict) else token
    if isinstance(text, str) and (known := tokenizer.token_to_id(text)) is not None:
        return int(known)
    number = settings.get(f"{role}_token_id")
    if isinstance(number, list):
        number = number[0] if number else None
    is_known = isinstance(number, int) and 0 <= number <= _LARGEST_ID and tokenizer.id_to_token(number) is not None
    return number if is_known else None


def _bos_id(settings: dict[str, Any], tokenizer: Any) -> int | None:
    """The token that the tokenizer puts before a text: what it does counts, then what its settings say."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    added = tokenizer.encode("a", add_special_tokens=True).ids
    named = _token_id(settings, "bos", tokenizer)
    puts_one = len(added) > len(bare) and added[0] == named and (not bare or added[0] != bare[0])
    return named if puts_one or settings.get("add_bos_token") is True else None
