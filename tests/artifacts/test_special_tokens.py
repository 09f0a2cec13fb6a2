"""Which tokens begin and end a document: by what the tokenizer does, and by the files in their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, processors

from steep.artifacts.special_tokens import SpecialTokens, find_special_tokens
from steep.spec.errors import InvalidModel

VOCABULARY = {"<eos>": 0, "<bos>": 1, "<other>": 2, "a": 3}


def tokenizer(*, puts: str | None = None) -> Tokenizer:
    """One that knows a letter, and puts a token before each text or not."""
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<other>"))
    made.add_special_tokens(["<eos>", "<bos>", "<other>"])
    if puts is not None:
        made.post_processor = processors.TemplateProcessing(
            single=f"{puts} $A", special_tokens=[(puts, VOCABULARY[puts])]
        )
    return made


def found(directory: Path, *, puts: str | None = None, **files: Any) -> SpecialTokens:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (directory / f"{name}.json").write_text(text, encoding="utf-8")
    return find_special_tokens(directory, tokenizer(puts=puts))


@pytest.mark.parametrize(
    ("puts", "settings", "expected"),
    [
        (None, {"eos_token": "<eos>", "bos_token": "<bos>"}, (0, None)),  # named, but never put
        ("<bos>", {"eos_token": "<eos>", "bos_token": "<bos>"}, (0, 1)),
        ("<other>", {"eos_token": "<eos>", "bos_token": "<bos>"}, (0, None)),  # what it puts is no BOS
        ("<eos>", {"eos_token": "<eos>", "bos_token": "<eos>"}, (0, None)),
        (None, {"eos_token": "<eos>", "bos_token": "<bos>", "add_bos_token": True}, (0, 1)),
        (None, {"eos_token": {"content": "<other>"}}, (2, None)),
        (None, {"eos_token": "<unknown>", "eos_token_id": [2, 0]}, (2, None)),
        (None, {"eos_token": "<eos>", "bos_token_id": 2**40, "add_bos_token": True}, (0, None)),
    ],
)
def test_what_the_tokenizer_does_and_its_settings_say(
    tmp_path: Path, puts: str | None, settings: dict[str, Any], expected: tuple[int, int | None]
) -> None:
    special = found(tmp_path, puts=puts, tokenizer_config=settings)
    assert (special.eos_id, special.bos_id) == expected
    assert special.start_id == (expected[0] if expected[1] is None else expected[1])


def test_the_more_authoritative_file_decides(tmp_path: Path) -> None:
    assert found(tmp_path, generation_config={"eos_token_id": 2}).eos_id == 2
    assert found(tmp_path, config={"text_config": {"eos_token_id": 3}}).eos_id == 3
    assert found(tmp_path, config={"eos_token_id": 1, "text_config": {"eos_token_id": 3}}).eos_id == 1
    assert found(tmp_path, special_tokens_map={"eos_token": "<other>"}).eos_id == 2
    assert found(tmp_path, tokenizer_config={"eos_token": "<eos>", "bos_token": None}).eos_id == 0


@pytest.mark.parametrize(
    ("content", "what"),
    [({"eos_token_id": 4}, "names no end-of-text token"), ("{", "is not JSON"), ("[]", "holds no JSON object")],
)
def test_what_names_none_is_refused(tmp_path: Path, content: Any, what: str) -> None:
    with pytest.raises(InvalidModel, match=what):
        found(tmp_path, config=content)
