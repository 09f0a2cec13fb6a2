"""datatrove, measured: its reader of jsonl and its tokenizer of documents, without the shuffle that it does by default.

Told: files, tokenizer (a directory), eos_token, workers, scratch.
"""

from __future__ import annotations

from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer

from comparison.sides.said import answer, arguments, seconds_since_start

TOKEN_BYTES = 2


def main() -> None:
    """Tokenize and answer."""
    told = arguments()
    scratch = Path(told["scratch"])
    out = scratch / "tokens"
    executor = LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(Path(told["files"][0]).parent), glob_pattern="*.jsonl"),
            DocumentTokenizer(
                str(out),
                tokenizer_name_or_path=str(Path(told["tokenizer"]) / "tokenizer.json"),
                eos_token=told["eos_token"],
                shuffle_documents=False,
            ),
        ],
        tasks=told["workers"],
        workers=told["workers"],
        logging_dir=str(scratch / "logs"),
    )
    executor.run()
    seconds = seconds_since_start()
    written = sum(path.stat().st_size for path in out.glob("*.ds"))
    answer({"seconds": seconds, "tokens": written // TOKEN_BYTES})


if __name__ == "__main__":
    main()
