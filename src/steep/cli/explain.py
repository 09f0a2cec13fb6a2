"""The resolved spec with the origin of and the reason for every value."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from steep.artifacts.lineage import TRUNK, Lineage
from steep.artifacts.rundir import RunDirectory
from steep.cli.estimate import estimate_facts
from steep.cli.jobfile import read_job
from steep.cli.paths import default_run
from steep.planning.facts import Facts, Trunk
from steep.planning.recipe import Decision, Recipe, derive
from steep.spec.job import JobSpec
from steep.spec.load import read_values
from steep.spec.stages import Stage

LATER = "derived when the job runs, from the base and the corpus"


class FieldValue(BaseModel):
    """One field of the spec."""

    model_config = ConfigDict(frozen=True)

    field: str
    value: Any
    origin: Literal["given", "default", "derived"]
    reason: str


class Explanation(BaseModel):
    """The whole answer: the spec's fields, what is derived from them, and what that rests on."""

    model_config = ConfigDict(frozen=True)

    spec: tuple[FieldValue, ...]
    recipe: tuple[Decision, ...]
    basis: str
    notes: tuple[str, ...] = ()


def explained(job: Path, overrides: list[str], directory: Path | None) -> Explanation:
    """Explain a job file; with measured facts where its run directory has them, else with estimates.

    Raises:
        InvalidSpec: the spec is not valid, or asks for what the base or the corpus cannot give.
    """
    spec = read_job(job, overrides)
    given = read_values(job, overrides=overrides)
    recipe, basis, notes = _recipe(spec, RunDirectory(directory or default_run(spec.name)))
    fields = tuple(_fields("", spec, given))
    return Explanation(spec=fields, recipe=recipe.decisions if recipe else (), basis=basis, notes=tuple(notes))


def _recipe(spec: JobSpec, run: RunDirectory) -> tuple[Recipe | None, str, list[str]]:
    file = run.path / "recipe.json"
    if file.exists() and run.job_file.exists() and run.spec() == spec:
        recipe = _of_a_branch(spec, run) or Recipe.model_validate_json(file.read_bytes())
        return recipe, f"Derived from what was measured in {run.path}.", []
    facts, notes = estimate_facts(spec)
    if facts is None:
        return None, "Nothing can be derived yet.", notes
    return derive(spec, facts), "Derived from estimates; the assess stage measures, and derives them again.", notes


def _of_a_branch(spec: JobSpec, run: RunDirectory) -> Recipe | None:
    """The recipe of a branch that has not been assessed itself: what lies there is that of the run which it left."""
    trunk, origin, assessed = run.path / TRUNK, Lineage.read(run).origin, run.completion(Stage.ASSESS)
    if origin is None or assessed is None or not trunk.exists():
        return None
    content = trunk.read_bytes()
    if (run.path / "recipe.json").read_bytes() != content:
        return None
    facts = {**assessed["outputs"]["facts"], "trunk": Trunk.left_at(origin.step, content)}
    return derive(spec, Facts.model_validate(facts))


def _fields(prefix: str, part: BaseModel, given: Any) -> Iterator[FieldValue]:
    """Each leaf of the spec, in the order in which the schema has them."""
    for name, info in type(part).model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        value = getattr(part, name)
        known = isinstance(given, Mapping) and name in given
        below = given[name] if isinstance(given, Mapping) and name in given else None
        if isinstance(value, BaseModel):
            shorthand = known and not isinstance(below, Mapping)  # such as `cleaning: code`, or `base: org/name`
            yield from _fields(path, value, _spelled_out(value) if shorthand else below)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for i, each in enumerate(value):
                item = below[i] if isinstance(below, list) and i < len(below) else None
                yield from _fields(f"{path}.{i}", each, {"path": item} if isinstance(item, str) else item)
        else:
            yield _leaf(path, part, name, info, known)


def _spelled_out(value: BaseModel) -> dict[str, Any]:
    """The fields that a shorthand gives: those in which it differs from the defaults, or all when it names these."""
    whole = {name: getattr(value, name) for name in type(value).model_fields}
    defaults = {name: info.get_default(call_default_factory=True) for name, info in type(value).model_fields.items()}
    return {name: each for name, each in whole.items() if each != defaults[name]} or whole


def _leaf(path: str, part: BaseModel, name: str, info: Any, known: bool) -> FieldValue:
    value = part.model_dump(mode="json", include={name})[name]
    about = (info.description or "").strip()
    if value is None and _is_derived(path, info):
        return FieldValue(field=path, value=None, origin="derived", reason=about or LATER)
    return FieldValue(field=path, value=value, origin="given" if known else "default", reason=about)


def _is_derived(path: str, info: Any) -> bool:
    """An optional field below training, checkpoints, evaluation or replay is derived when it is left out."""
    optional = get_origin(info.annotation) in (Union, types.UnionType) and type(None) in get_args(info.annotation)
    left_out_on_purpose = ("checkpoints.store", "evaluation.task_limit", "training.average", "training.method.lora")
    return (
        optional
        and path.startswith(("training.", "checkpoints.", "evaluation.", "replay.share"))
        and (path not in left_out_on_purpose and "general." not in path)
    )


def print_explained(explanation: Explanation) -> None:
    """For people: two tables and what they rest on."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title="The spec", title_justify="left")
    for name in ("field", "value", "", "meaning"):
        table.add_column(
            name, overflow="fold", no_wrap=name in ("field", ""), min_width=16 if name == "value" else None
        )
    section = ""
    for field in explanation.spec:
        above, _, name = field.field.rpartition(".")
        if above and above != section:  # a heading, and short names below it: whole ones would not fit a terminal
            table.add_row(Text(above, "bold"))
        section = above
        style = {"given": "bold", "default": "", "derived": "cyan"}[field.origin]
        value = "auto" if field.origin == "derived" else _spell(field.value)
        table.add_row(f"  {name}" if above else name, Text(value, style), field.origin, Text(field.reason, "dim"))
    console.print(table)
    console.print()
    for note in explanation.notes:
        console.print(Text(note, "dim"))
    console.print(Text(explanation.basis, "bold"))
    if explanation.recipe:
        derived = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("number", "value", "why"):
            derived.add_column(name, overflow="fold")
        for decision in explanation.recipe:
            derived.add_row(decision.field, Text(decision.value, "bold"), Text(decision.reason))
        console.print(derived)


def _spell(value: Any) -> str:
    if value is None or value in ((), []):
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
