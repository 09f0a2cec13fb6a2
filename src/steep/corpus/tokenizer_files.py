"""The files of a Hugging Face tokenizer: found in a directory or on the hub, read without transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steep.artifacts.files import hash_text
from steep.spec.errors import InvalidModel

_NAMES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json")
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
    directory = Path(model).expanduser()
    if not directory.is_dir():
        directory = _from_hub(model)
    path = directory / "tokenizer.json"
    if not path.exists():
        raise _without_tokenizer_json(directory)
    content = path.read_bytes()
    tokenizer = _parse(content, path)
    settings = _settings(directory)
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    eos_id = _eos_id(settings, vocabulary, directory)
    bos_id = _bos_id(settings, tokenizer, vocabulary, eos_id)
    return TokenizerFiles(
        directory=directory,
        content=content,
        tokenizer=tokenizer,
        eos_id=eos_id,
        bos_id=bos_id,
        vocab_size=max(vocabulary.values()) + 1,
        special=[token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())],
        fingerprint=hash_text("tokenizer-1", content.decode("utf-8"), str(eos_id), str(bos_id)),
    )


def _from_hub(model: str) -> Path:
    """Download the few files of a hub id, or find them in the hub's cache."""
    name, _, revision = model.partition("@")
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise InvalidModel("there is no such directory", where=model, cure="Check the path of the base model.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(_NAMES)))
    except Exception as error:  # the hub's client raises many types: no network, no such name, no permission
        raise InvalidModel(
            f"is neither a directory nor a model that the hub gave us ({str(error).strip().splitlines()[0]})",
            where=model,
            cure="Give a directory with tokenizer.json, or check the name and the network.",
        ) from error


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


def _settings(directory: Path) -> dict[str, Any]:
    """All settings that name special tokens, the most authoritative last."""
    merged: dict[str, Any] = {}
    for name in reversed(_NAMES[1:]):
        path = directory / name
        if path.exists():
            try:
                found = json.loads(path.read_bytes())
            except ValueError as error:
                raise InvalidModel(
                    f"is not JSON ({error})", where=str(path), cure="Fetch the base model again."
                ) from None
            text_config = found.get("text_config")
            found = {**(text_config if isinstance(text_config, dict) else {}), **found}
            merged.update({key: value for key, value in found.items() if value is not None})
    return merged


def _token_id(settings: dict[str, Any], role: str, vocabulary: dict[str, int]) -> int | None:
    """Id of the token in a role ("eos", "bos"), by its text, else by its number."""
    token = settings.get(f"{role}_token")
    text = token.get("content") if isinstance(token, dict) else token
    if isinstance(text, str) and text in vocabulary:
        return vocabulary[text]
    number = settings.get(f"{role}_token_id")
    if isinstance(number, list):
        number = number[0] if number else None
    return number if isinstance(number, int) and 0 <= number <= max(vocabulary.values()) else None


def _eos_id(settings: dict[str, Any], vocabulary: dict[str, int], directory: Path) -> int:
    found = _token_id(settings, "eos", vocabulary)
    if found is None:
        raise InvalidModel(
            "names no end-of-text token that its vocabulary holds",
            where=str(directory),
            cure="Set eos_token in tokenizer_config.json; every document ends with it.",
        )
    return found


def _bos_id(settings: dict[str, Any], tokenizer: Any, vocabulary: dict[str, int], eos_id: int) -> int | None:
    """The token that the tokenizer puts before a text: what it does counts, then what its settings say."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    added = tokenizer.encode("a", add_special_tokens=True).ids
    named = _token_id(settings, "bos", vocabulary)
    if len(added) > len(bare) and added[0] == named and (not bare or added[0] != bare[0]):
        found = named
    else:
        found = named if settings.get("add_bos_token") is True else None
    return None if found == eos_id else found
