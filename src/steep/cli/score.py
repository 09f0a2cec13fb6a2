"""`steep score`: bits per byte of any model on any text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def score(
    model: str = typer.Argument(metavar="MODEL", help="A directory or a hub id; RUN/export for a run's result."),
    text: list[Path] = typer.Option(
        ..., "--text", metavar="PATH", help="File or directory of text; give it again for more, each is scored."
    ),
    max_tokens: str = typer.Option(
        "100k",
        "--max-tokens",
        metavar="TOKENS",
        help="About so many tokens of each --text are scored: whole pieces from its first file on, at least one.",
    ),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code", help="Run code that comes with the model."),
    json: bool = typer.Option(False, "--json", help="Print the answer as JSON."),
) -> None:
    """Score a model on text, in bits per byte, which do not depend on its tokenizer: lower is better."""
    from steep.cli.launch import act
    from steep.cli.output import print_json, say
    from steep.spec.errors import InvalidInput
    from steep.spec.units import parse_tokens

    try:
        most = parse_tokens(max_tokens)
    except ValueError as error:
        raise InvalidInput(str(error), where="--max-tokens", cure="Write it like 100k.") from None
    if most < 1:
        raise InvalidInput("nothing would be scored", where="--max-tokens", cure="Write it like 100k.")
    for path in text:
        if not path.exists():
            raise InvalidInput("there is no such file or directory", where=str(path), cure="Check the path.")
    answer = act(
        "score",
        {
            "model": str(Path(model).resolve()) if Path(model).exists() else model,
            "text": [str(path.resolve()) for path in text],
            "max_tokens": most,
            "trust_remote_code": trust_remote_code,
        },
    )
    for path, part in zip(text, answer["texts"], strict=True):
        if part["stopped_early"]:
            say(
                f"warning: of {path} only {part['tokens']:,} tokens were scored, as its next piece is larger than what was "
                f"left of {most:,}; give more --max-tokens for a number that says more"
            )
    if json:
        print_json(answer)
        return
    if len(text) > 1:
        for path, part in zip(text, answer["texts"], strict=True):
            print(f"{_sentence(part)}  {path}")
    print(_sentence(answer) + (", all together" if len(text) > 1 else ""))


def _sentence(score: dict[str, Any]) -> str:
    from steep.spec.units import format_bytes, format_tokens

    size = f"{format_bytes(score['text_bytes'])}, {format_tokens(score['tokens'])} tokens"
    return f"{score['bpb']:.4f} bits per byte over {size}"
