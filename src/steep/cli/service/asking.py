"""What a command asks whoever runs it."""

from __future__ import annotations

import sys

from steep.spec.errors import InvalidInput


def sure(question: str, yes: bool) -> bool:
    """Whether it is to be done.

    Args:
        question: what is asked on a terminal.
        yes: it was said beforehand.

    Raises:
        InvalidInput: nobody is there to be asked.
    """
    import typer

    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidInput("nobody is there to be asked", where="standard input", cure="Say --yes, and it is done.")
    return typer.confirm(question, err=True)


def secret(what: str, *, from_stdin: bool, option: str) -> str:
    """Something that must not be seen: typed without showing it, or read from standard input.

    Args:
        what: its name, for the prompt.
        from_stdin: read it there.
        option: how one says that, for the cure.

    Raises:
        InvalidInput: nobody is there to be asked, or nothing was given.
    """
    import typer

    if from_stdin:
        given = sys.stdin.read()
    elif sys.stdin.isatty():
        given = typer.prompt(what, hide_input=True, err=True)
    else:
        raise InvalidInput(
            f"nobody is there to be asked for the {what.lower()}",
            where="standard input",
            cure=f"Say {option}, and write it to standard input.",
        )
    if not given.strip():
        raise InvalidInput(f"no {what.lower()} was given", where=option if from_stdin else "standard input")
    return str(given).strip()
