"""Third pass over a corpus: what was chosen becomes token datasets, part by part, over the processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from steep.artifacts.files import hash_text
from steep.artifacts.tokens import TokenDatasetInfo
from steep.corpus.choosing import Choice
from steep.corpus.copies import Fate
from steep.corpus.document import Document
from steep.corpus.encoding import EncodedPart, EncodeTask, encode_part, lend_tokenizer
from steep.corpus.plan import CorpusPlan
from steep.corpus.tokenize import CorpusTokenizer, write_token_dataset
from steep.corpus.workers import Workers

Progress = Callable[[str, float, float | None], None]
ROLE_DIRECTORIES = {"corpus": "train", "replay": "replay"}
HOLDOUT_DIRECTORIES = {"corpus": "holdout", "replay": "general", "general": "general"}
_SAMPLED_TEXTS = 50
_SAMPLED_CHARACTERS = 2000


class EnginesDiffer(Exception):
    """The quick engine gives other ids than the true one for this corpus."""


@dataclass(slots=True)
class Written:
    """The token datasets of a corpus.

    Attributes:
        engine: which encoded them.
        trained: manifests of what is trained on, by source.
        held_out: manifests of hold-outs, by source.
        drop_files: Arrow files of what was dropped in this pass.
    """

    engine: str
    trained: dict[str, TokenDatasetInfo] = field(default_factory=dict)
    held_out: dict[str, TokenDatasetInfo] = field(default_factory=dict)
    drop_files: list[Path] = field(default_factory=list)

    def fingerprint(self, choice: Choice) -> str:
        """Of every token, and of every text that is measured on."""
        infos = {**{f"train/{name}": info for name, info in self.trained.items()}, **self.held_out}
        facts = sorted(f"{name}={info.fingerprint}" for name, info in infos.items())
        texts = [hash_text(*holdout.texts) for _, holdout in sorted(choice.holdouts.items())]
        return hash_text("corpus-1", *facts, *texts)


def write_datasets(
    plan: CorpusPlan,
    choice: Choice,
    model: str,
    tokenizer: CorpusTokenizer,
    out: Path,
    workers: Workers,
    progress: Progress,
) -> Written:
    """Encode by the quick engine if it agrees with the true one on every part of the corpus, else all by the true one.

    Args:
        plan: what the corpus is made of.
        choice: what was decided of it.
        model: directory or hub id of the tokenizer.
        tokenizer: it, loaded.
        out: directory of the prepared corpus.
        workers: processes to encode in.
        progress: told of bytes encoded.
    """
    held = [text for holdout in choice.holdouts.values() for text in holdout.texts[:_SAMPLED_TEXTS]]
    tokenizer.verify([text[:_SAMPLED_CHARACTERS] for text in held])
    try:
        return _write(plan, choice, model, tokenizer, out, workers, progress)
    except EnginesDiffer:
        truth = CorpusTokenizer.load(model, "tokenizers")
        return _write(plan, choice, model, truth, out, workers, progress)


def _write(
    plan: CorpusPlan,
    choice: Choice,
    model: str,
    tokenizer: CorpusTokenizer,
    out: Path,
    workers: Workers,
    progress: Progress,
) -> Written:
    written = Written(tokenizer.engine)
    lend_tokenizer(model, tokenizer)
    tasks = {name: list(_tasks(choice, name, model, tokenizer, out / "work" / "encoded")) for name in plan.roles}
    sizes = {name: choice.decisions[name].bytes_of(Fate.TRAIN) for name in plan.roles}
    total = sum(sizes.values())
    done = 0.0
    for name, role in plan.roles.items():
        results = workers.map(encode_part, tasks[name], total)
        if role == "general":
            parts = list(results)
        else:
            parts = []
            writer = tokenizer.writer(out / ROLE_DIRECTORIES[role] / name, name=name)
            for part in _agreeing(results):
                writer.append(*part.arrays())
                parts.append(part)
                progress("bytes of text encoded", done + sizes[name] * len(parts) / len(tasks[name]), total)
            written.trained[name] = writer.finish()
        done += sizes[name]
        written.drop_files += [part.drops_file for part in parts if part.drops_file.exists()]
        texts = (Document("", text, name, "") for text in choice.holdouts[name].texts)
        place = out / HOLDOUT_DIRECTORIES[role] / name
        written.held_out[name] = write_token_dataset(texts, tokenizer, place, name=name, keep_texts=True)
    return written


def _agreeing(parts: Iterator[EncodedPart]) -> Iterator[EncodedPart]:
    for part in parts:
        if not part.agrees:
            raise EnginesDiffer
        yield part


def _tasks(choice: Choice, name: str, model: str, tokenizer: CorpusTokenizer, out: Path) -> Iterator[EncodeTask]:
    """What is to be done with each part of a source."""
    decisions = choice.decisions[name]
    limit = choice.holdouts[name].limit
    for index, part in enumerate(decisions.parts):
        yield EncodeTask(part, name, decisions.fates[decisions.of_part(index)], limit, model, tokenizer.engine, out)
