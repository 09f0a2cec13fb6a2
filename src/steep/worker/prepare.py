"""Stage prepare: raw text to token datasets. Needs no GPU and no weights, only the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from steep.artifacts.files import hash_text, write_atomic
from steep.evaluate.taskfiles import fingerprint_tasks
from steep.spec.errors import DamagedArtifact, Stopped
from steep.spec.job import JobSpec
from steep.spec.stages import Stage
from steep.worker.context import Context

VOCABULARY_TEXT_BYTES = 64_000_000


def inputs(context: Context) -> dict[str, Any]:
    """The corpus as it lies there now, and all that decides what is done with it."""
    from steep.corpus.missing import require_sources
    from steep.corpus.plan import prompts_to_avoid
    from steep.corpus.sources import list_files, name_sources

    spec = context.spec
    require_sources(spec)
    sources = name_sources(_all_sources(spec))
    prompts = prompts_to_avoid(spec)
    return {
        "base": context.base_fingerprint,
        "corpus": spec.corpus.model_dump(mode="json"),
        "replay": spec.replay.model_dump(mode="json", exclude={"share"}),
        "general": [source.model_dump(mode="json") for source in spec.evaluation.general],
        "max_tokens": spec.evaluation.max_tokens,
        "tasks": fingerprint_tasks(spec.evaluation.tasks) if spec.corpus.decontaminate else "",
        **({"prompts": prompts} if prompts else {}),
        "files": [
            (file.source, file.path, file.size_bytes, file.version)
            for name, source in sources.items()
            for file in list_files(name, source)
        ],
    }


def there(context: Context) -> bool:
    """Whether the token datasets are, as they were written; looked at once an attempt, and damage is told."""
    from steep.corpus.prepare import open_sound

    if not (context.run.dataset / "manifest.json").exists():
        return False
    try:
        open_sound(context.run.dataset)
    except DamagedArtifact as error:
        context.notice("damaged_dataset", f"the prepared corpus is damaged: {error}", warning=True)
        return False
    return True


def work(context: Context) -> dict[str, Any]:
    """Load the tasks, train a tokenizer where the job asks for one, then prepare the corpus."""
    from steep.corpus.prepare import prepare

    progress = _progress(context)
    texts = _task_texts(context)
    scratch = context.spec.base.from_scratch
    if scratch is not None and scratch.tokenizer is None:
        _make_tokenizer(context, scratch.vocab_size)
    corpus = prepare(context.spec, context.tokenizer, context.run.dataset, progress=progress, task_texts=texts)
    for warning in corpus.warnings:
        context.notice("corpus", warning, warning=True)
    return {
        "corpus_fingerprint": corpus.fingerprint,
        "train_tokens": sum(len(dataset) for dataset in corpus.train.values()),
        "holdout_tokens": sum(len(dataset) for dataset in corpus.holdout.values()),
    }


def _progress(context: Context) -> Callable[[str, float, float | None], None]:
    """Progress that hears a request to stop: parts that are finished are kept, so the preparation goes on from them."""
    tell = context.progress(Stage.PREPARE)

    def report(what: str, done: float, total: float | None) -> None:
        tell(what, done, total)
        if reason := context.should_stop():
            raise Stopped(f"stopped while preparing: {reason}", cure="Run the same command to go on.")

    return report


def _task_texts(context: Context) -> list[str]:
    """What the tasks ask and answer, of which nothing shall be trained on where the job decontaminates.

    They are loaded in any case: a task that cannot be must not be heard of after a night's training.
    """
    tasks = context.spec.evaluation.tasks
    if not tasks:
        return []
    from steep.evaluate.tasks import require_tasks, task_texts

    require_tasks(tasks)
    return list(task_texts(tasks)) if context.spec.corpus.decontaminate else []


def _all_sources(spec: JobSpec) -> list[Any]:
    replay = [] if spec.replay.source == "self" else [spec.replay.source]
    return [*spec.corpus.sources, *spec.evaluation.general, *replay]


def _make_tokenizer(context: Context, vocab_size: int) -> None:
    from steep.corpus.vocabulary import train_tokenizer

    out = Path(context.tokenizer)
    made_of, wanted = out.with_name("tokenizer.made-of"), _made_of(context, vocab_size)
    if (out / "tokenizer.json").exists() and made_of.exists() and made_of.read_text() == wanted:
        return
    context.notice("tokenizer", f"training a byte-level BPE of {vocab_size} entries on the corpus")
    made_of.unlink(missing_ok=True)
    train_tokenizer(_texts(context), vocab_size, out)
    write_atomic(made_of, wanted)


def _made_of(context: Context, vocab_size: int) -> str:
    """Fingerprint of what the tokenizer is trained on: another one trains it again."""
    from steep.corpus.sources import list_files, name_sources

    sources = name_sources(list(context.spec.corpus.sources))
    files = [
        (file.path, file.size_bytes, file.version, source.model_dump(mode="json", exclude={"name", "weight"}))
        for name, source in sources.items()
        for file in list_files(name, source)
    ]
    return hash_text(json.dumps([vocab_size, files]))


def _texts(context: Context) -> Iterator[str]:
    """Texts of the corpus sources, up to a bounded number of bytes, each source in proportion to its files."""
    from steep.corpus.document import Document
    from steep.corpus.extract import extract
    from steep.corpus.sources import list_files, name_sources

    files = [
        (file, source)
        for name, source in name_sources(list(context.spec.corpus.sources)).items()
        for file in list_files(name, source)
    ]
    total = sum(file.size_bytes for file, _ in files)
    stride = max(1, round(total / VOCABULARY_TEXT_BYTES))
    for file, source in files[::stride]:
        for item in extract(file, source):
            if isinstance(item, Document):
                yield item.text
