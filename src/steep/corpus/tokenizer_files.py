"""The files of a Hugging Face tokenizer: found in a directory or on the hub, read without transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steep.artifacts.files import hash_text
from steep.artifacts.hub import find_directory
from steep.artifacts.special_tokens import SETTINGS_FILES, find_special_tokens
from steep.spec.errors import InvalidModel

_NAMES = ("tokenizer.json", *SETTINGS_FILES)
_OTHER_KINDS = ("tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What a tokenizer's files say.

    Attributes:
        directory: where they lie.
        content: `tokenizer.json` itself.
        tokenizer: it, loaded by `tokenizers`.
        eos_id: the token that ends a text.
        bos_id: the token that it puts before a text, where that is not EOS.
        vocab_size: one more than the largest id.
        special: the added tokens as they stand in a text.
        fingerprint: hash of all that decides ids.
    """

    directory: Path
    content: bytes
    tokenizer: Any
    eos_id: int
    bos_id: int | None
    vocab_size: int
    special: list[str]
    fingerprint: str


def find_tokenizer(model: str) -> TokenizerFiles:
    """Read the tokenizer of a directory or a hub id.

    Raises:
        InvalidModel: it is not there, cannot be read, or names no end-of-text token.
    """
    directory = find_directory(model, _NAMES, holds="tokenizer.json")
    path = directory / "tokenizer.json"
    if not path.exists():
        raise _without_tokenizer_json(directory)
    content = path.read_bytes()
    tokenizer = _parse(content, path)
    special = find_special_tokens(directory, tokenizer)
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    return TokenizerFiles(
        directory=directory,
        content=content,
        tokenizer=tokenizer,
        eos_id=special.eos_id,
        bos_id=special.bos_id,
        vocab_size=max(vocabulary.values()) + 1,
        special=[token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())],
        fingerprint=hash_text("tokenizer-1", content.decode("utf-8"), str(special.eos_id), str(special.bos_id)),
    )


def _without_tokenizer_json(directory: Path) -> InvalidModel:
    there = [name for name in _OTHER_KINDS if (directory / name).exists()]
    if there:
        return InvalidModel(
            f"has {' and '.join(there)} but no tokenizer.json",
            where=str(directory),
            cure="Load it once with transformers' AutoTokenizer and save_pretrained it there, which writes tokenizer.json.",
        )
    return InvalidModel("has no tokenizer.json", where=str(directory), cure="Put the base model's tokenizer beside it.")


def _parse(content: bytes, path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises bare Exception
        raise InvalidModel(
            f"is not a tokenizer that can be loaded ({error})", where=str(path), cure="Fetch the base model again."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
