"""What the stages of one run share: the spec, where things lie, who listens, and what earlier stages made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from steep.artifacts.files import hash_text
from steep.artifacts.rundir import RunDirectory
from steep.spec.job import JobSpec
from steep.spec.reports import NoticeReport, ProgressReport
from steep.spec.stages import Stage

if TYPE_CHECKING:
    from steep.corpus.prepare import PreparedCorpus
    from steep.train.observer import Observer


@dataclass
class Context:
    """One run while it is worked on.

    Args:
        run: its directory.
        spec: its job spec.
        observer: told of everything.
        should_stop: asked between units of work; returns the reason to stop, or nothing.
    """

    run: RunDirectory
    spec: JobSpec
    observer: Observer
    should_stop: Callable[[], str | None]

    @property
    def tokenizer(self) -> str:
        """Directory or hub id that the tokenizer is read from."""
        scratch = self.spec.base.from_scratch
        if scratch is None:
            return self.base
        return scratch.tokenizer or str(self.run.base / "tokenizer")

    @property
    def base(self) -> str:
        """Directory or hub id of the base model; one made from scratch lies in the run directory."""
        return self.spec.base.model or str(self.run.base / "model")

    @cached_property
    def corpus(self) -> PreparedCorpus:
        """What the prepare stage made."""
        from steep.corpus.prepare import PreparedCorpus

        return PreparedCorpus.open(self.run.dataset)

    @property
    def base_fingerprint(self) -> str:
        """Changes when the base's files change: names, sizes and times of a directory, or the hub id."""
        if self.spec.base.from_scratch is not None:
            return hash_text(self.spec.base.model_dump_json(), str(self.spec.seed))
        directory = Path(self.base)
        if not directory.is_dir():
            return hash_text(self.base)
        files = sorted(path for path in directory.iterdir() if path.suffix in (".json", ".safetensors"))
        facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hash_text(json.dumps(facts))

    def progress(self, stage: Stage) -> Callable[[str, float, float | None], None]:
        """A progress callback for the rooms below, which know nothing of stages."""

        def report(what: str, done: float, total: float | None) -> None:
            self.observer.progress(ProgressReport(stage=stage, what=what, done=done, total=total))

        return report

    def notice(self, code: str, message: str, *, warning: bool = False) -> None:
        """Tell people something."""
        self.observer.notice(NoticeReport(level="warning" if warning else "info", code=code, message=message))
