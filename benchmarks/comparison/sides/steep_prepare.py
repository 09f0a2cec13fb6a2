"""Steep's whole prepare stage, from jsonl to token shards.

Told: files, tokenizer (a directory), workers, cleaning (a preset), dedup (whether copies are removed), scratch.
"""

from __future__ import annotations

from pathlib import Path

from comparison.sides.said import answer, arguments, seconds_since_start
from steep.corpus.prepare import prepare
from steep.spec.job import JobSpec


def main() -> None:
    """Prepare and answer."""
    told = arguments()
    spec = JobSpec.model_validate(
        {
            "name": "benchmark",
            "base": told["tokenizer"],
            "corpus": {
                "sources": [{"path": str(Path(told["files"][0]).parent), "name": "text", "text_field": "text"}],
                "cleaning": told["cleaning"],
                "dedup": {"exact": told["dedup"], "near": 0.8 if told["dedup"] else None},
                "decontaminate": False,
                "holdout": 0,
            },
            "replay": "none",
        }
    )
    corpus = prepare(spec, told["tokenizer"], Path(told["scratch"]) / "dataset", num_workers=told["workers"])
    seconds = seconds_since_start()
    answer({"seconds": seconds, "tokens": sum(len(dataset) for dataset in corpus.train.values())})


if __name__ == "__main__":
    main()
