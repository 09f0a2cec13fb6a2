"""What the stages of one run share: the spec, where things lie, who listens, and what earlier stages made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from steep.artifacts.commits import read_commits
from steep.artifacts.files import hash_text
from steep.artifacts.guard import GuardRecord
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.tokens import TokenDataset
from steep.planning.guard import guarded
from steep.planning.recipe import Recipe
from steep.spec.errors import DamagedArtifact
from steep.spec.job import JobSpec
from steep.spec.reports import NoticeReport, ProgressReport
from steep.spec.stages import Stage
from steep.worker.neighbours import ProcessorTimes
from steep.worker.records import Records

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from steep.corpus.prepare import PreparedCorpus
    from steep.evaluate.compare import Measurement
    from steep.train.observer import Observer


@dataclass
class Context:
    """One run while it is worked on.

    Args:
        run: its directory.
        spec: its job spec.
        observer: told of everything.
        should_stop: asked between units of work; returns the reason to stop, or nothing.
        began: what the processor had done when this process took it up.
    """

    run: RunDirectory
    spec: JobSpec
    observer: Observer
    should_stop: Callable[[], str | None]
    began: ProcessorTimes = field(default_factory=ProcessorTimes.now)

    # ---- what goes in

    @property
    def base(self) -> str:
        """Directory or hub id of the base model; one made from scratch lies in the run directory."""
        return self._at_commit(self.spec.base.model) if self.spec.base.model else str(self.run.base / "model")

    @cached_property
    def base_directory(self) -> Path:
        """Where the base's files lie; those of a hub id are found in the hub's cache, or downloaded."""
        from steep.model.files import find_model

        return find_model(self.base, with_code=self.spec.base.trust_remote_code)

    @property
    def tokenizer(self) -> str:
        """Directory or hub id that the tokenizer is read from."""
        scratch = self.spec.base.from_scratch
        if scratch is None:
            return self.base
        return self._at_commit(scratch.tokenizer) if scratch.tokenizer else str(self.run.base / "tokenizer")

    def _at_commit(self, model: str) -> str:
        """A name of the job with the commit of the hub that it means in this run, once that is settled."""
        known = read_commits(self.run.base).get(model)
        return model if known is None else known.name(model)

    @property
    def base_fingerprint(self) -> str:
        """Changes when the base's files change: names, sizes and times of a directory, or the commit of a hub id."""
        if self.spec.base.from_scratch is not None:
            return hash_text(self.spec.base.model_dump_json(), str(self.spec.seed))
        if (known := read_commits(self.run.base).get(str(self.spec.base.model))) is not None:
            return known.fingerprint
        directory = Path(self.base)
        if not directory.is_dir():
            return hash_text(self.base)
        files = sorted(path for path in directory.iterdir() if path.suffix in (".json", ".safetensors"))
        facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hash_text(json.dumps(facts))

    @cached_property
    def weights_fingerprint(self) -> str:
        """Changes when the base's weights or tokenizer do, wherever they lie; checkpoints belong to these weights."""
        from steep.worker.replay import weights_fingerprint

        directory = Path(self.base)
        scratch = self.spec.base.from_scratch is not None
        return self.base_fingerprint if scratch or not directory.is_dir() else weights_fingerprint(directory)

    # ---- what earlier stages made

    @cached_property
    def corpus(self) -> PreparedCorpus:
        """What the prepare stage made."""
        from steep.corpus.prepare import PreparedCorpus

        return PreparedCorpus.open(self.run.dataset)

    @property
    def recipe_file(self) -> Path:
        """Where assess writes the recipe."""
        return self.run.path / "recipe.json"

    @property
    def planned(self) -> Recipe:
        """The recipe that assess derived."""
        if not self.recipe_file.exists():
            raise DamagedArtifact("has no recipe yet", where=str(self.run.path), cure="Run `steep run` on it first.")
        return Recipe.model_validate_json(self.recipe_file.read_bytes())

    @property
    def guard(self) -> GuardRecord:
        """What the guard against forgetting did to this training; what it did to one of another spec is void."""
        from steep.worker.fingerprints import planned_training

        record = GuardRecord.read(self.run.path)
        return record if record.rollbacks and record.training == planned_training(self) else GuardRecord()

    @property
    def recipe(self) -> Recipe:
        """The recipe as it is carried out now: the planned one, and what the guard changed in it."""
        return guarded(self.planned, [one.to_step for one in self.guard.rollbacks])

    @property
    def self_directory(self) -> Path:
        """Where text sampled from the base lies, tokenized."""
        return self.run.base / "self"

    @property
    def general(self) -> dict[str, TokenDataset]:
        """The hold-outs for forgetting: those of the corpus, and text sampled from the base."""
        sampled = self.self_directory / "holdout"
        own = {"self": TokenDataset(sampled)} if (sampled / "manifest.json").exists() else {}
        return {**self.corpus.general, **own}

    @property
    def replay(self) -> dict[str, TokenDataset]:
        """The replay text: of the corpus, or sampled from the base."""
        return self.replay_of(self.guard)

    def replay_of(self, guard: GuardRecord) -> dict[str, TokenDataset]:
        """The replay text after what the guard did, which may have had more of it sampled."""
        if self.spec.replay.source != "self":
            return dict(self.corpus.replay)
        sampled = self.self_directory / (guard.replay or "train")
        return {"self": TokenDataset(sampled)} if (sampled / "manifest.json").exists() else {}

    @property
    def holdouts_fingerprint(self) -> str:
        """Of the text that every model of the run is scored on, and how much of it."""
        datasets = {**self.corpus.holdout, **{f"general/{name}": data for name, data in self.general.items()}}
        facts = [f"{name}={dataset.info.fingerprint}" for name, dataset in sorted(datasets.items())]
        return hash_text(self.base_fingerprint, str(self.spec.evaluation.max_tokens), *facts)

    @property
    def records(self) -> Records:
        """What was measured of this run's models."""
        from steep.worker.fingerprints import ancestry, lineage

        return Records(
            self.run.evaluation, lineage=lineage(self), holdouts=self.holdouts_fingerprint, ancestry=ancestry(self)
        )

    # ---- what works on it

    @cached_property
    def device(self) -> torch.device:
        """Where this process computes."""
        return this_device()

    def load_base(self) -> PreTrainedModel:
        """The base, with fp32 weights, on the device."""
        from steep.model.load import load_model

        return load_model(self.base, trust_remote_code=self.spec.base.trust_remote_code).to(self.device)

    def measure(self, model: PreTrainedModel, stage: Stage) -> Measurement:
        """Score a model on all hold-outs; the same text, windows and precision for each."""
        from steep.evaluate.holdouts import measure
        from steep.model.score import context_tokens

        return measure(
            model,
            self.corpus.holdout,
            self.general,
            max_tokens=self.spec.evaluation.max_tokens,
            context=context_tokens(model),
            progress=self.progress(stage),
        )

    # ---- who listens

    def progress(self, stage: Stage) -> Callable[[str, float, float | None], None]:
        """A progress callback for the rooms below, which know nothing of stages."""

        def report(what: str, done: float, total: float | None) -> None:
            self.observer.progress(ProgressReport(stage=stage, what=what, done=done, total=total))

        return report

    def notice(self, code: str, message: str, *, warning: bool = False) -> None:
        """Tell people something."""
        self.observer.notice(NoticeReport(level="warning" if warning else "info", code=code, message=message))


def this_device() -> torch.device:
    """Where a process of this machine computes: the first CUDA device, else the CPU."""
    import torch

    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
