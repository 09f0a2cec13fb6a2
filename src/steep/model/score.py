"""Bits per byte of a model on text: how many bits it would take to write down each byte, whatever the tokenizer.

Text is scored in pieces. Each piece is read from a fresh context: its start token is BOS, or EOS where there is no BOS, and
then come consecutive windows of the context's length, so that every token of the piece is predicted once. The EOS at its end
is not scored, since it is no part of the text. Everything that a run compares is scored here, in the same windows and
the same precision: fp32 on a CPU, bf16 products with fp32 sums on a GPU, where training and use are in bf16 too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steep.artifacts.pieces import cut_pieces
from steep.artifacts.tokens import TokenDataset
from steep.model.attention import NAME
from steep.model.batch import IGNORED, pack
from steep.model.loss import Head, head_of, hidden_states
from steep.spec.losschunks import chunk_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Window = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # inputs and labels of equal length

BATCH_TOKENS = {"cpu": 4096, "cuda": 16384}
SIZE_STEP = 256
DEFAULT_CONTEXT_TOKENS = 2048
_PIECES_AT_ONCE = 64


class Encoder(Protocol):
    """What is needed of a tokenizer; `CorpusTokenizer` has it."""

    eos_id: int
    bos_id: int | None

    def encode_batch(self, texts: list[str]) -> list[Any]:
        """Arrays of token ids, one a text, without BOS and EOS."""


@dataclass(frozen=True, slots=True)
class HoldoutScore:
    """What some text costs a model.

    Args:
        nats: sum over all tokens scored.
        tokens: tokens scored.
        text_bytes: UTF-8 bytes of the text that they stand for.
    """

    nats: float
    tokens: int
    text_bytes: int

    @property
    def bpb(self) -> float:
        """Bits per byte; NaN when there was no text."""
        return self.nats / math.log(2) / self.text_bytes if self.text_bytes else math.nan

    def __add__(self, other: HoldoutScore) -> HoldoutScore:
        """Of both texts together."""
        text_bytes = self.text_bytes + other.text_bytes
        return HoldoutScore(self.nats + other.nats, self.tokens + other.tokens, text_bytes)


@dataclass(frozen=True, slots=True)
class _Piece:
    ids: npt.NDArray[np.int64]
    text_bytes: int


def score_dataset(model: PreTrainedModel, dataset: TokenDataset, *, max_tokens: int, context: int) -> HoldoutScore:
    """Score a model on a hold-out that was tokenized with its own tokenizer.

    Args:
        model: on its device, in any mode, which it is left in; with our attention or the library's.
        dataset: its documents are the pieces.
        max_tokens: tokens scored at most, in whole pieces from the first on; one piece at least.
        context: tokens of a window.
    """
    info = dataset.info
    start_id = info.eos_id if info.bos_id is None else info.bos_id
    return _score(model, _within(_stored_pieces(dataset), max_tokens), start_id, context)


def score_text(
    model: PreTrainedModel, tokenizer: Encoder, texts: Iterable[str], *, max_tokens: int | None = None
) -> HoldoutScore:
    """Score a model on plain text, in windows of its own context.

    Args:
        model: as for `score_dataset`.
        tokenizer: the model's own.
        texts: documents; each is cut into pieces as a hold-out is.
        max_tokens: as for `score_dataset`; None scores everything.
    """
    start_id = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    pieces = _encoded_pieces(tokenizer, texts)
    return _score(model, _within(pieces, max_tokens), start_id, context_tokens(model))


def context_tokens(model: PreTrainedModel) -> int:
    """The longest sequence that a model takes; 2048 where its config names none."""
    config = model.config.get_text_config()
    named = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(named or DEFAULT_CONTEXT_TOKENS)


# -------------------------------------------------------------------------------------------------------------- pieces


def _stored_pieces(dataset: TokenDataset) -> Iterator[_Piece]:
    head = 0 if dataset.info.bos_id is None else 1
    position = 0
    for tokens, text_bytes in dataset.documents().tolist():
        yield _Piece(dataset.read(position + head, tokens - head - 1), text_bytes)
        position += tokens


def _encoded_pieces(tokenizer: Encoder, texts: Iterable[str]) -> Iterator[_Piece]:
    waiting: list[str] = []
    for text in texts:
        waiting.extend(cut_pieces(text))
        if len(waiting) >= _PIECES_AT_ONCE:
            yield from _encode(tokenizer, waiting)
            waiting = []
    yield from _encode(tokenizer, waiting)


def _encode(tokenizer: Encoder, texts: list[str]) -> Iterator[_Piece]:
    for text, ids in zip(texts, tokenizer.encode_batch(texts) if texts else [], strict=True):
        yield _Piece(np.asarray(ids).astype(np.int64), len(text.encode("utf-8", errors="surrogatepass")))


def _within(pieces: Iterable[_Piece], max_tokens: int | None) -> Iterator[_Piece]:
    """The first pieces that together have no more tokens than that; one at least."""
    tokens = 0
    for number, piece in enumerate(pieces):
        tokens += len(piece.ids)
        if max_tokens is not None and tokens > max_tokens and number > 0:
            return
        yield piece


# ------------------------------------------------------------------------------------------------------------- scoring


@torch.no_grad()
def _score(model: PreTrainedModel, pieces: Iterable[_Piece], start_id: int, context: int) -> HoldoutScore:
    chosen = list(pieces)
    windows = [window for piece in chosen for window in _windows(piece.ids, start_id, context)]
    nats = torch.zeros((), dtype=torch.float64)
    with evaluating(model), same_precision(model.device):
        for some in _batches(windows, BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"])):
            nats += _nats(model, some)
    return HoldoutScore(float(nats), sum(len(piece.ids) for piece in chosen), sum(p.text_bytes for p in chosen))


def _windows(ids: npt.NDArray[np.int64], start_id: int, context: int) -> Iterator[Window]:
    inputs = np.concatenate([[start_id], ids[:-1]])
    for begin in range(0, len(ids), context):
        yield inputs[begin : begin + context], ids[begin : begin + context]


def _batches(windows: list[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Windows together, the longest first, so that those of a batch are about as long as each other."""
    batch: list[Window] = []
    tokens = 0
    for window in sorted(windows, key=lambda each: -len(each[1])):
        if batch and tokens + len(window[1]) > batch_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(window)
        tokens += len(window[1])
    if batch:
        yield batch


def _nats(model: PreTrainedModel, windows: list[Window]) -> Tensor:
    """Sum of nats of all labels, fp64, on the CPU."""
    device = model.device
    if model.config._attn_implementation == NAME:
        batch = pack(_filled_up(windows)).to(device)
        return _cost(hidden_states(model, batch), head_of(model), batch.labels)
    rows = _padded([torch.from_numpy(inputs) for inputs, _ in windows]).to(device)
    labels = _padded([torch.from_numpy(goals) for _, goals in windows]).to(device)
    lengths = torch.tensor([len(goals) for _, goals in windows], device=device)
    real = torch.arange(rows.shape[1], device=device)[None] < lengths[:, None]
    hidden = model.base_model(input_ids=rows, use_cache=False).last_hidden_state
    return _cost(hidden[real], head_of(model), labels[real])


def _filled_up(windows: list[Window]) -> list[Window]:
    """The windows and others of no account, so that batches have few different sizes: libraries keep a kernel for each."""
    lengths = [len(labels) for _, labels in windows]
    missing, longest = -sum(lengths) % SIZE_STEP, max(lengths)
    fillers = [np.zeros(min(longest, missing - begin), dtype=np.int64) for begin in range(0, missing, longest)]
    return [*windows, *((filler, filler + IGNORED) for filler in fillers)]


def _padded(rows: list[Tensor]) -> Tensor:
    """Rows of one length, zeros at the right, where causal attention does not look."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _cost(hidden: Tensor, head: Head, labels: Tensor) -> Tensor:
    """Nats of labels that count, a chunk of tokens at a time, so that the logits of all never exist."""
    size = chunk_tokens(hidden.device.type, len(head.weight))
    nats = torch.zeros((), dtype=torch.float64, device=hidden.device)
    for rows, goals in zip(hidden.split(size), labels.split(size), strict=True):
        logits = head.logits(rows).float()
        costs = logits.logsumexp(-1) - logits.gather(1, goals.clamp(min=0)[:, None])[:, 0]
        nats += costs[goals != IGNORED].sum(dtype=torch.float64)
    return nats.cpu()


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model in evaluation mode, and afterwards in the mode it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def same_precision(device: torch.device) -> torch.autocast:
    """bf16 products on a GPU that has them; on a CPU the weights' own type."""
    wanted = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)
