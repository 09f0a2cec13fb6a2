"""What a job's corpus is made of, before anything of it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from steep.artifacts.files import hash_text
from steep.corpus.decontaminate import long_enough
from steep.corpus.sources import SourceFile, list_files, name_sources
from steep.corpus.tokenize import CorpusTokenizer
from steep.spec.job import JobSpec, Source

VERSION = "prepare-1"  # another one when the same corpus would be prepared otherwise
Role = Literal["corpus", "general", "replay"]


@dataclass(frozen=True)
class CorpusPlan:
    """Sources, what they are for, and their files.

    Attributes:
        spec: the job.
        roles: of each source, by name; `corpus` ones first, then `general`, then `replay`.
        sources: what the spec says of each.
        files: of each.
        task_texts: what evaluation tasks ask and answer; it must not be trained on.
    """

    spec: JobSpec
    roles: dict[str, Role]
    sources: dict[str, Source]
    files: dict[str, list[SourceFile]] = field(repr=False)
    task_texts: tuple[str, ...] = field(repr=False, default=())

    def named(self, role: Role) -> list[str]:
        """Names of the sources in a role."""
        return [name for name, each in self.roles.items() if each == role]

    @property
    def all_files(self) -> Iterator[SourceFile]:
        """The files of all sources."""
        return chain.from_iterable(self.files.values())

    @property
    def file_bytes(self) -> int:
        """Size of all files as they lie there."""
        return sum(file.size_bytes for file in self.all_files)

    @property
    def asked_texts(self) -> tuple[str, ...]:
        """What models are asked, by tasks and by prompts."""
        return (*self.task_texts, *prompts_to_avoid(self.spec))

    def fingerprint(self, tokenizer: CorpusTokenizer) -> str:
        """Of all that the result depends on."""
        spec = self.spec
        prompts = prompts_to_avoid(spec)
        facts = {
            "version": VERSION,
            "tokenizer": tokenizer.fingerprint,
            "steps": spec.corpus.model_dump(mode="json", exclude={"sources", "max_failed"}),
            "sources": {
                name: (self.roles[name], source.model_dump(mode="json", exclude={"weight", "name"}))
                for name, source in self.sources.items()
            },
            "files": [(file.source, file.path, file.size_bytes, file.version) for file in self.all_files],
            "max_tokens": spec.evaluation.max_tokens,
            "task_texts": hash_text(*self.task_texts),
            **({"prompts": prompts} if prompts else {}),
        }
        return hash_text(json.dumps(facts))


def prompts_to_avoid(spec: JobSpec) -> list[str]:
    """The prompts of a job that must not be trained on."""
    return long_enough(spec.evaluation.prompts) if spec.corpus.decontaminate else []


def plan_corpus(spec: JobSpec, task_texts: Iterable[str] = ()) -> CorpusPlan:
    """List the files of every source of a job. Raises InvalidCorpus when one is missing or empty."""
    replay = [] if spec.replay.source == "self" else [spec.replay.source]
    listed: list[tuple[Role, Source]] = [("corpus", source) for source in spec.corpus.sources]
    listed += [("general", source) for source in spec.evaluation.general]
    listed += [("replay", source) for source in replay]
    sources = name_sources([source for _, source in listed])
    roles = {name: role for name, (role, _) in zip(sources, listed, strict=True)}
    return CorpusPlan(
        spec, roles, sources, {name: list_files(name, source) for name, source in sources.items()}, tuple(task_texts)
    )
