"""Raw text to token datasets, in three passes: read and clean; find copies and hold out; encode.

Each pass works on parts on disk, so memory does not grow with the corpus, work is spread over processes, and a preparation that
was interrupted goes on where it was. The result does not depend on how many processes there were.

    OUT/
      train/<source>/ holdout/<source>/ general/<name>/ replay/<name>/     token datasets; hold-outs with their texts
      accounting.json      see `accounting.py`
      drops.parquet        every document, line and file that was dropped, with step, reason and beginning
      manifest.json        written last: the corpus is prepared
      work/                finished parts, while preparing
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from steep.artifacts.files import write_atomic
from steep.artifacts.tokens import TokenDataset
from steep.corpus import encoding, reading
from steep.corpus.accounting import Ledger, warnings
from steep.corpus.choosing import choose_texts
from steep.corpus.clean import only_mended
from steep.corpus.counting import count_all, count_reading, require_text, sample_texts, write_drops_table
from steep.corpus.datasets import Written, write_datasets
from steep.corpus.language import languages_of
from steep.corpus.plan import CorpusPlan, Role, plan_corpus
from steep.corpus.reading import Steps, Unit, is_harmless, make_units, read_units
from steep.corpus.tokenize import CorpusTokenizer
from steep.corpus.workers import Workers
from steep.spec.errors import DamagedArtifact
from steep.spec.job import JobSpec

PARTS = ("train", "holdout", "general", "replay")
VERIFIED_BYTES = 4 << 30  # of tokens to train on: a few seconds, which any attempt may take
Progress = Callable[[str, float, float | None], None]


class CorpusManifest(BaseModel):
    """`manifest.json`: the corpus is prepared when this is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus_fingerprint: str
    inputs_fingerprint: str
    train: tuple[str, ...]
    holdout: tuple[str, ...]
    general: tuple[str, ...]
    replay: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PreparedCorpus:
    """A corpus that is ready to train on; make it with `prepare`, open it with `open`.

    Attributes:
        fingerprint: changes when any token or any text that is measured on does.
        accounting: what became of every byte and token.
        warnings: what people should know about it.
        train: what is to be learned, by source.
        holdout: domain hold-outs, by source.
        general: hold-outs for forgetting, by name.
        replay: general text to mix in, by name.
    """

    fingerprint: str
    accounting: dict[str, Any]
    warnings: tuple[str, ...]
    train: dict[str, TokenDataset]
    holdout: dict[str, TokenDataset]
    general: dict[str, TokenDataset]
    replay: dict[str, TokenDataset]

    @classmethod
    def open(cls, out: Path) -> PreparedCorpus:
        """What `prepare` made in this directory.

        Raises:
            DamagedArtifact: it is not complete.
        """
        manifest = read_manifest(out)
        if manifest is None:
            raise DamagedArtifact("holds no prepared corpus", where=str(out), cure="Run the prepare stage.")
        return cls(
            fingerprint=manifest.corpus_fingerprint,
            accounting=json.loads((out / "accounting.json").read_bytes()),
            warnings=manifest.warnings,
            **{name: {each: TokenDataset(out / name / each) for each in getattr(manifest, name)} for name in PARTS},
        )

    def verify(self, most_bytes: int = VERIFIED_BYTES) -> None:
        """Compare what lies there with its hashes: every hold-out, and of what is trained on as much as is quickly read.

        A run goes on within seconds, and a large corpus takes minutes to read. Sizes were compared when it was opened,
        whatever it has.

        Args:
            most_bytes: of tokens to train on, the small datasets first.

        Raises:
            DamagedArtifact: names the shard whose bytes are wrong.
        """
        for dataset in (*self.holdout.values(), *self.general.values()):
            dataset.verify()
        for dataset in sorted((*self.train.values(), *self.replay.values()), key=lambda each: each.info.token_bytes):
            most_bytes -= dataset.info.token_bytes
            if most_bytes < 0:
                return
            dataset.verify()


def read_manifest(out: Path) -> CorpusManifest | None:
    """The manifest of a prepared corpus; None when there is none, or none that this version understands."""
    path = out / "manifest.json"
    try:
        return CorpusManifest.model_validate_json(path.read_bytes()) if path.exists() else None
    except ValidationError:
        return None


def prepare(
    spec: JobSpec,
    tokenizer: str,
    out: Path,
    *,
    progress: Progress = lambda what, done, total: None,
    task_texts: Iterable[str] = (),
    num_workers: int | None = None,
) -> PreparedCorpus:
    """Prepare a job's corpus in `out`, unless that is done already; what is damaged there is made anew.

    Args:
        spec: the job; its paths are absolute.
        tokenizer: directory or hub id of the base model's tokenizer.
        out: directory to prepare in; what is left there of the same corpus is gone on with.
        progress: told (what, done, total).
        task_texts: text of evaluation tasks, which must not be trained on.
        num_workers: processes; by default one for each core.

    Raises:
        InvalidCorpus: a source is missing or empty, too much of it cannot be read, or nothing is left to train on.
        InvalidModel: the tokenizer does not load.
        OutOfSpace: the disk is full; the same call goes on.
    """
    plan = plan_corpus(spec, task_texts)
    manifest = read_manifest(out)
    with Workers(num_workers, helps=all(map(is_harmless, plan.all_files))) as workers:
        if manifest is None:
            workers.warm(reading.get_ready, None, plan.file_bytes)
        loaded = CorpusTokenizer.load(tokenizer)
        inputs = plan.fingerprint(loaded)
        if manifest is not None and manifest.inputs_fingerprint == inputs:
            with contextlib.suppress(DamagedArtifact):
                return open_sound(out)
        (out / "manifest.json").unlink(missing_ok=True)
        units = plan_units(plan, out / "work")
        read_units([unit for own in units.values() for unit in own], workers, progress)
        workers.warm(encoding.get_ready, tokenizer, plan.file_bytes)
        ledger = count_reading(plan, units)
        parts = {name: [part for unit in own for part in unit.parts] for name, own in units.items()}
        choice = choose_texts(plan, parts, out / "work", progress)
        require_text(plan, choice)
        languages = workers.start(languages_of, sample_texts(plan, choice))
        written = write_datasets(plan, choice, tokenizer, loaded, out, workers, progress)
        ledger.languages = languages()
    count_all(ledger, parts, choice, written)
    write_drops_table(out / "drops.parquet", parts, written.drop_files)
    write_atomic(out / "accounting.json", json.dumps(ledger.report(), indent=1))
    _commit(plan, inputs, written, written.fingerprint(choice), ledger, out)
    return PreparedCorpus.open(out)


def open_sound(out: Path) -> PreparedCorpus:
    """What `prepare` made in this directory, its bytes compared with their hashes; see `PreparedCorpus.verify`.

    Raises:
        DamagedArtifact: it is not complete, or not what was written.
    """
    corpus = PreparedCorpus.open(out)
    corpus.verify()
    return corpus


def plan_units(plan: CorpusPlan, work: Path) -> dict[str, list[Unit]]:
    """What is read together, by source, and the steps that its documents go through."""
    spec = plan.spec.corpus
    near, runs = spec.dedup.near is not None, spec.decontaminate
    mended = only_mended(spec.cleaning)
    steps: dict[Role, Steps] = {
        "corpus": Steps(spec.cleaning, near, runs),
        "replay": Steps(mended, near, runs),
        "general": Steps(mended, False, False),
    }
    return {
        name: make_units(work, source, plan.files[name], steps[plan.roles[name]])
        for name, source in plan.sources.items()
    }


def _commit(plan: CorpusPlan, inputs: str, written: Written, fingerprint: str, ledger: Ledger, out: Path) -> None:
    """Write the manifest, after which the corpus is prepared, and remove what is not part of it."""
    weights = {name: plan.sources[name].weight for name in plan.named("corpus")}
    manifest = CorpusManifest(
        corpus_fingerprint=fingerprint,
        inputs_fingerprint=inputs,
        train=tuple(plan.named("corpus")),
        holdout=tuple(name for name in plan.named("corpus") if written.held_out[name].tokens),
        general=tuple(name for name in plan.named("general") + plan.named("replay") if written.held_out[name].tokens),
        replay=tuple(plan.named("replay")),
        warnings=tuple(warnings(ledger, weights)),
    )
    write_atomic(out / "manifest.json", manifest.model_dump_json(indent=1))
    for part in PARTS:
        for directory in (out / part).glob("*"):
            if directory.name not in getattr(manifest, part):
                shutil.rmtree(directory)
    shutil.rmtree(out / "work", ignore_errors=True)
