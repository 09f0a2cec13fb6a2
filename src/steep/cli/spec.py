"""`steep spec`: the schema, validation, and every value with the reason for it."""

from __future__ import annotations

from pathlib import Path

import typer

from steep.cli.run import JobFile, JsonOption, RunOption, SetOption

app = typer.Typer(name="spec", no_args_is_help=True, help="The job spec: its schema, and what a job file comes to.")


@app.command()
def schema() -> None:
    """Print the JSON schema of job files, for editors that complete and check them."""
    from steep.cli.output import print_json
    from steep.cli.schema import job_schema

    print_json(job_schema())


@app.command()
def validate(job: Path = JobFile, overrides: list[str] = SetOption, json: bool = JsonOption) -> None:
    """Check a job file without doing anything. Exit code 2 when it is not valid, or names local paths that are not there."""
    from steep.cli.missing import require_paths
    from steep.cli.output import print_json
    from steep.spec.load import load_spec

    spec = load_spec(job, overrides=overrides)
    require_paths(spec, job)
    if json:
        print_json(spec.model_dump(mode="json"))
    else:
        print(f"{job}: valid; job {spec.name!r}, {len(spec.corpus.sources)} source(s).")


@app.command()
def explain(
    job: Path = JobFile, overrides: list[str] = SetOption, directory: Path | None = RunOption, json: bool = JsonOption
) -> None:
    """Print the resolved spec: each value, whether it was given, and why a derived one is what it is."""
    from steep.cli.explain import explained, print_explained
    from steep.cli.output import print_json

    explanation = explained(job, overrides, directory)
    if json:
        print_json(explanation.model_dump(mode="json"))
    else:
        print_explained(explanation)
