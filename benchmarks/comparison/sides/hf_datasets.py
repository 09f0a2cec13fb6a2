"""Hugging Face datasets, measured: the recipe of its language-model example, `map` to ids and `map` to blocks.

It is spared what the example does beside that: no attention masks are kept, and labels are not a copy of the ids.
Told: files, tokenizer (a directory), workers, scratch.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import load_dataset
from transformers import AutoTokenizer

from comparison.sides.said import answer, arguments, seconds_since_start

BLOCK_TOKENS = 1024


def main() -> None:
    """Tokenize and answer."""
    told = arguments()
    tokenizer = AutoTokenizer.from_pretrained(told["tokenizer"])
    eos_id = tokenizer.eos_token_id

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[*ids, eos_id] for ids in tokenizer(batch["text"])["input_ids"]]}

    def group(batch: dict[str, list[Any]]) -> dict[str, list[list[int]]]:
        ids = list(chain.from_iterable(batch["input_ids"]))
        whole = len(ids) // BLOCK_TOKENS * BLOCK_TOKENS
        return {"input_ids": [ids[start : start + BLOCK_TOKENS] for start in range(0, whole, BLOCK_TOKENS)]}

    cache = Path(told["scratch"]) / "cache"
    raw = load_dataset("json", data_files=told["files"], split="train", cache_dir=str(cache))
    tokens = raw.map(tokenize, batched=True, num_proc=told["workers"], remove_columns=raw.column_names)
    blocks = tokens.map(group, batched=True, num_proc=told["workers"])
    seconds = seconds_since_start()
    tokenized = sum(pc.sum(pc.list_value_length(part)).as_py() for part in tokens.data.column("input_ids").chunks)
    answer({"seconds": seconds, "tokens": tokenized}, facts={"tokens_in_blocks": len(blocks) * BLOCK_TOKENS})


if __name__ == "__main__":
    main()
