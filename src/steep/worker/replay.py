"""Text of the base's own kind, sampled from the base itself: hold-out for forgetting, and replay where nothing better is given.

Samples are kept in the user's cache under the fingerprint of the weights, part by part, so an interrupted sampling goes
on, a longer job only adds parts, and the next job on the same base starts at once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steep.artifacts.cache import cache_directory
from steep.artifacts.files import hash_file, hash_text, write_atomic
from steep.artifacts.pieces import cut_pieces
from steep.artifacts.tokens import TokenDataset
from steep.corpus.document import Document
from steep.corpus.tokenize import CorpusTokenizer, write_token_dataset
from steep.spec.errors import Stopped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from steep.spec.stages import Stage
    from steep.worker.context import Context

Progress = Callable[[str, float, float | None], None]
PART_TOKENS = 40_000
HOLDOUT_PARTS = 1
PARTS_AT_ONCE = {"cuda": 8}
"""A GPU takes as long for a few documents as for hundreds, so it writes several parts together; others write one by one."""
MAX_REPLAY_TOKENS = 8_000_000
REPLAY_EPOCHS = 2.0
SELF = "self"


@dataclass(frozen=True, slots=True)
class SelfText:
    """Token datasets of text sampled from the base."""

    holdout: TokenDataset
    train: TokenDataset | None


def self_tokens_for(replay_tokens: float) -> int:
    """Tokens to sample for that many tokens of replay: each is seen about twice, and there is a cap.

    Sampling costs about as much as training on the same number of tokens, so a token is used more than once.
    """
    return int(min(replay_tokens / REPLAY_EPOCHS, MAX_REPLAY_TOKENS))


def weights_fingerprint(model_directory: Path) -> str:
    """Hash of a model's weights and tokenizer, wherever they lie."""
    names = [path for path in sorted(model_directory.iterdir()) if path.suffix == ".safetensors"]
    names += [model_directory / name for name in ("config.json", "tokenizer.json")]
    return hash_text(*(f"{path.name}={hash_file(path)}" for path in names if path.exists()))


@dataclass(frozen=True, slots=True)
class SelfSampler:
    """Samples a base's own text, at temperature 1. Each part that is complete stays in the cache.

    Args:
        model: the base, on its device.
        tokenizer: directory or hub id of its tokenizer.
        weights: fingerprint of the base, the key of the cache.
        progress: told of tokens sampled.
        should_stop: asked every few tokens; of a part that is not complete, nothing is kept.
    """

    model: PreTrainedModel
    tokenizer: str
    weights: str
    progress: Progress
    should_stop: Callable[[], str | None]

    @classmethod
    def of(cls, context: Context, model: PreTrainedModel, stage: Stage) -> SelfSampler:
        """That of a run's base, for one of its stages."""
        return cls(model, context.tokenizer, context.weights_fingerprint, context.progress(stage), context.should_stop)

    def sample(self, out: Path, replay_tokens: int) -> SelfText:
        """Sample a hold-out and `replay_tokens` tokens of replay, which may be none, and tokenize them into `out`.

        Raises:
            Stopped: asked to.
        """
        parts = self._parts(replay_tokens)
        self._write(parts[:HOLDOUT_PARTS], out / "holdout", keep_texts=True)
        if len(parts) > HOLDOUT_PARTS:
            self._write(parts[HOLDOUT_PARTS:], out / "train", keep_texts=False)
        return open_self(out)

    def sample_replay(self, out: Path, replay_tokens: int) -> TokenDataset:
        """Sample replay alone into `out`; a larger amount begins with all of a smaller one.

        Raises:
            Stopped: asked to.
        """
        parts = self._parts(replay_tokens)
        shutil.rmtree(out, ignore_errors=True)  # a branch may share its files
        self._write(parts[HOLDOUT_PARTS:], out, keep_texts=False)
        return TokenDataset(out)

    def _write(self, parts: list[Path], out: Path, *, keep_texts: bool) -> None:
        documents = _documents(parts, pieces=keep_texts)
        write_token_dataset(documents, CorpusTokenizer.load(self.tokenizer), out, name=SELF, keep_texts=keep_texts)

    def _parts(self, replay_tokens: int) -> list[Path]:
        """Files of sampled text in the cache: those of the hold-out, then those of as much replay."""
        num_parts = HOLDOUT_PARTS + -(-replay_tokens // PART_TOKENS)
        at_once = PARTS_AT_ONCE.get(self.model.device.type, 1)
        last = num_parts * PART_TOKENS

        def tell(tokens: float) -> None:
            self.progress("tokens sampled from the base", min(tokens, last), last)

        def telling_from(before: int) -> Progress:
            def telling(what: str, done: float, total: float | None) -> None:
                self._go_on()
                tell(before + done)

            return telling

        cache = cache_directory() / "self" / self.weights
        for first in range(0, num_parts, at_once):
            paths = [cache / f"part-{part:05d}.json" for part in range(first, first + at_once)]
            tell(first * PART_TOKENS)
            if all(path.exists() for path in paths[: num_parts - first]):
                continue
            self._go_on()
            _write_parts(self.model, self.tokenizer, paths, first, telling_from(first * PART_TOKENS))
        tell(last)
        return [cache / f"part-{part:05d}.json" for part in range(num_parts)]

    def _go_on(self) -> None:
        if reason := self.should_stop():
            raise Stopped(f"stopped while sampling: {reason}", cure="Run the same command to go on.")


def open_self(directory: Path) -> SelfText:
    """What `SelfSampler.sample` made."""
    train = directory / "train"
    has_train = (train / "manifest.json").exists()
    return SelfText(TokenDataset(directory / "holdout"), TokenDataset(train) if has_train else None)


def _write_parts(model: PreTrainedModel, tokenizer: str, paths: list[Path], seed: int, progress: Progress) -> None:
    from steep.model.generate import sample_texts

    wanted = len(paths) * PART_TOKENS
    texts = list(sample_texts(model, tokenizer, num_tokens=wanted, seed=seed, progress=progress))
    for number, path in enumerate(paths):
        if not path.exists():  # what runs were made with stays as it is
            write_atomic(path, json.dumps(texts[number :: len(paths)]))


def _documents(parts: list[Path], *, pieces: bool) -> Iterator[Document]:
    for part in parts:
        for index, text in enumerate(json.loads(part.read_bytes())):
            for number, piece in enumerate(cut_pieces(text) if pieces else [text]):
                if piece.strip():
                    origin = f"{part.stem}:{index}:{number}"
                    yield Document(id=hash_text(SELF, origin), text=piece, source=SELF, origin=origin)
