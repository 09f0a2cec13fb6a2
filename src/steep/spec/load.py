"""Read a job spec from YAML or TOML, with errors that name the field and the cure."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from steep.spec.errors import InvalidSpec
from steep.spec.job import JobSpec
from steep.spec.wording import words_of

_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML in which `on`, `off`, `yes` and `no` are words, as in YAML 1.2: `on` is a key of a job, `no` is Norwegian."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - it is its base's
        first: [one for one in known if one[0] != _BOOL]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_yaml(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        YAMLError: it is none.
    """
    return yaml.load(text, Loader=_Loader)


def load_spec(path: Path, *, overrides: Sequence[str] = ()) -> JobSpec:
    """Read and validate the job spec at `path`; relative paths in it are taken from the file's own directory.

    Args:
        path: a `.yaml`, `.yml` or `.toml` file.
        overrides: `dotted.key=value` strings, as given with `--set`.

    Raises:
        InvalidSpec: missing or malformed file, unknown key, bad value.
    """
    values = read_values(path, overrides=overrides)
    return parse_spec(values, where=place_of(path, overrides), directory=path.resolve().parent)


def place_of(path: Path, overrides: Sequence[str]) -> str:
    """Where a spec's values stand: what is wrong may be none of the file's."""
    return " ".join([str(path), *(f"--set {read_override(override)[0]}" for override in overrides)])


def read_values(path: Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values of a job file with the overrides applied, before they are validated. See `load_spec`."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        raise InvalidSpec("there is no such job file", where=str(path), cure="Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"cannot be read ({error})", where=str(path)) from error
    try:
        values = tomllib.loads(text) if path.suffix == ".toml" else read_yaml(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise InvalidSpec(f"is not well-formed: {error}", where=str(path), cure="Mend the syntax there.") from None
    if not isinstance(values, dict):
        raise InvalidSpec(
            "holds no job: the top level must be keys and values", where=str(path), cure="Start with `name:`."
        )
    for override in overrides:
        set_value(values, override)
    return values


def parse_spec(values: dict[str, Any], *, where: str = "job spec", directory: Path | None = None) -> JobSpec:
    """Validate a spec given as plain values. See `load_spec`."""
    try:
        spec = JobSpec.model_validate(values)
    except ValidationError as error:
        raise _explain(error, values, where) from None
    return spec if directory is None else absolute(spec, directory)


def read_override(override: str) -> tuple[str, Any]:
    """The dotted key and the value of a `dotted.key=value` string; the value as a job file would hold it.

    Raises:
        InvalidSpec: it sets nothing, or its value is none.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InvalidSpec(
            f"{override!r} does not set anything", where="--set", cure="Write --set training.learning_rate=1e-5."
        )
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        where = f"--set {key}"
        raise InvalidSpec(f"{text!r} is no value: {error}", where=where, cure="Write it as in the job file.") from None
    if isinstance(value, str):  # YAML 1.1 reads 1e-5 as text, people mean a number
        with contextlib.suppress(ValueError):  # else it is text after all
            value = float(value)
    return key, value


def set_value(values: dict[str, Any], override: str) -> None:
    """Put a `dotted.key=value` string into the plain values of a job file. See `read_override`."""
    key, value = read_override(override)
    node = values
    *parents, last = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise InvalidSpec(f"{key!r} goes through {parent!r}, which holds a plain value", where="--set")
        node = child
    node[last] = value


def _explain(error: ValidationError, values: dict[str, Any], where: str) -> InvalidSpec:
    problems = []
    issues = error.errors()
    for issue in issues:
        if issue["type"] == "too_short" and _is_wrong_within(issue["loc"], issues):
            continue
        *parents, last = issue["loc"] or ("",)
        is_key = issue["type"] == "extra_forbidden"  # whatever it looks like
        location = [part for part in (*parents, last) if not _is_union_label(part) or (is_key and part is last)]
        field = ".".join(str(part) for part in location)
        if is_key:
            close = difflib.get_close_matches(str(location[-1]), _known_keys(location[:-1]), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"{field}: there is no such key{hint}")
        elif issue["type"] == "missing":
            problems.append(f"{field}: is missing")
        else:
            problems.append(f"{field}: {words_of(issue)}")
    unique = list(dict.fromkeys(problems))
    return InvalidSpec(
        "\n  ".join(["the job spec is not valid:" if len(unique) > 1 else "is not valid:", *unique]),
        where=where,
        cure="`steep spec schema` prints every key with its meaning.",
    )


def _is_wrong_within(place: tuple[int | str, ...], issues: Sequence[ErrorDetails]) -> bool:
    """Whether an item of a list is wrong itself, for which the list is then said to have no items."""
    return any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in issues)


def _is_union_label(part: int | str) -> bool:
    return isinstance(part, str) and (part.startswith(("function-", "literal[", "str", "union")) or part[:1].isupper())


def _known_keys(location: Sequence[int | str]) -> list[str]:
    node: Any = JobSpec
    for part in location:
        if isinstance(part, int):
            continue
        node = _model_of(node.model_fields[part].annotation) if part in getattr(node, "model_fields", {}) else None
        if node is None:
            return []
    return list(node.model_fields)


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_of(part)) is not None), None)


def is_remote(path: str) -> bool:
    """Whether a path is a URL (`s3://`, `https://`, `hf://`...) rather than a file."""
    return "://" in path


def absolute(spec: JobSpec, directory: Path) -> JobSpec:
    """The same spec with every local path absolute, so that it means the same from anywhere."""

    def resolve(path: str) -> str:
        if is_remote(path):
            return path
        local = Path(path).expanduser()
        return str(local if local.is_absolute() else _below(directory, local))

    def resolve_model(path: str) -> str:
        local = Path(path).expanduser()
        if local.is_absolute():
            return str(local)
        place = _below(directory, local)
        return str(place) if path.startswith((".", "~")) or place.exists() else path

    def source(old: Any) -> Any:
        if isinstance(old, str):
            return old
        return old.model_copy(update={"path": resolve(old.path)})

    base = spec.base
    if base.model is not None:
        base = base.model_copy(update={"model": resolve_model(base.model)})
    elif base.from_scratch is not None and base.from_scratch.tokenizer is not None:
        scratch = base.from_scratch.model_copy(update={"tokenizer": resolve_model(base.from_scratch.tokenizer)})
        base = base.model_copy(update={"from_scratch": scratch})
    evaluation = spec.evaluation.model_copy(
        update={
            "general": tuple(source(each) for each in spec.evaluation.general),
            "tasks": tuple(resolve(t) if t.endswith((".yaml", ".yml")) else t for t in spec.evaluation.tasks),
        }
    )
    store = spec.checkpoints.store
    return spec.model_copy(
        update={
            "base": base,
            "corpus": spec.corpus.model_copy(update={"sources": tuple(source(each) for each in spec.corpus.sources)}),
            "replay": spec.replay.model_copy(update={"source": source(spec.replay.source)}),
            "evaluation": evaluation,
            "checkpoints": spec.checkpoints.model_copy(update={"store": resolve(store) if store else None}),
        }
    )


def _below(directory: Path, local: Path) -> Path:
    """A relative path from a directory, which is free of links; `..` at its head goes up, as a reader expects to see it."""
    while local.parts[:1] == ("..",):
        directory, local = directory.parent, Path(*local.parts[1:])
    return directory / local
