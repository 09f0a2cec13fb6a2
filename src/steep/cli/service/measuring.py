"""`steep checkpoints evaluate JOB STEP`: have a checkpoint measured later, by a job of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from steep.spec.errors import EXIT_LEFT, InvalidInput


def evaluate_of_job(
    job: str, step: int, tasks: Sequence[str], texts: Sequence[str], *, watch: bool, json: bool
) -> None:
    """Order the measurement, and say which job it is; or wait for it, and print the numbers.

    Args:
        job: id of the checkpoint's job.
        step: of the checkpoint.
        tasks: names, or absolute paths of YAML files.
        texts: paths on this machine, which are uploaded where the server is on another; or URLs.
        watch: wait for it.
        json: print JSON.
    """
    from steep.cli.missing import require_measured
    from steep.cli.output import print_json, say
    from steep.cli.service.cards import sentence
    from steep.cli.service.connect import connected
    from steep.cli.service.outcome import outcome_error
    from steep.cli.service.sending import is_here, upload_sources
    from steep.spec.api.checkpoints import EvaluationRequest
    from steep.spec.job import Source
    from steep.spec.load import is_remote

    if not (tasks or texts):
        raise InvalidInput(
            "nothing is to be measured", where="steep checkpoints evaluate", cure="Give --task or --text."
        )
    sources = tuple(Source(path=text if is_remote(text) else str(Path(text).resolve())) for text in texts)
    with connected() as client:
        require_measured(tasks, sources, tasks_too=is_here(client.server))
        if not is_here(client.server):
            sources = upload_sources(sources, client, client.jobs.detail(job).project)
        request = EvaluationRequest(tasks=tuple(tasks), texts=sources)
        view = client.checkpoints.evaluate(job, step, request)
        if not watch:
            if json:
                print_json(view.model_dump(mode="json"))
            else:
                print(sentence(view))
                print(f"`steep checkpoints show {job} {step}` shows the numbers when it has succeeded.")
            return
        try:
            client.jobs.wait(view.id, progress=not json)
        except KeyboardInterrupt:
            say(f"Left; the measurement goes on. `steep jobs watch {view.id}` shows it again.")
            raise typer.Exit(EXIT_LEFT) from None
        if error := outcome_error(client.jobs.detail(view.id)):
            raise error
        scores = client.checkpoints.get(job, step).scores
    if json:
        print_json(scores)
        return
    for name, metrics in scores.items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in metrics.items()))
