"""Sequences as a model takes them: one flat row of documents, with the bounds within which attention stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IGNORED = -100

IdArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """N tokens of any number of segments (documents or parts of them), one after another.

    Args:
        input_ids: int64 `[1, N]`.
        labels: int64 `[N]`; the token that follows each input, or `IGNORED`.
        position_ids: int64 `[1, N]`; from 0 in each segment.
        cu_seq_lens: int32 `[num_segments + 1]`; where segments begin, and N.
        max_length: tokens of the longest segment.
        num_labels: labels that are not `IGNORED`.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    cu_seq_lens: Tensor
    max_length: int
    num_labels: int

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(
            input_ids=self.input_ids.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            position_ids=self.position_ids.to(device, non_blocking=True),
            cu_seq_lens=self.cu_seq_lens.to(device, non_blocking=True),
            max_length=self.max_length,
            num_labels=self.num_labels,
        )

    def model_arguments(self) -> dict[str, Any]:
        """Keyword arguments for a Hugging Face model whose attention is ours.

        The empty mask of four dimensions says that masks are ready made, so the library builds none of N x N; the segment
        bounds, which reach the attention function, are the mask.
        """
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": torch.empty(1, 1, 0, 0, dtype=torch.bool, device=self.input_ids.device),
            "cu_seq_lens_q": self.cu_seq_lens,
            "cu_seq_lens_k": self.cu_seq_lens,
            "max_length_q": self.max_length,
            "max_length_k": self.max_length,
            "use_cache": False,
        }


def make_batch(rows: Sequence[IdArray], eos_id: int, bos_id: int | None) -> Batch:
    """Training rows as one batch; each row is cut into segments where its documents begin.

    A document begins at its BOS. Where there is none, the EOS of the document before stands for it: an input that is EOS
    belongs to the document that follows. The step from a document's EOS to the next one's BOS is not learned.

    Args:
        rows: `[S + 1]` ids each: S inputs, and one more for the last label.
        eos_id: the end of every document.
        bos_id: its begin, where the tokenizer has one.
    """
    inputs = np.concatenate([row[:-1] for row in rows]).astype(np.int64, copy=False)
    labels = np.concatenate([row[1:] for row in rows]).astype(np.int64, copy=True)
    begins = inputs == (eos_id if bos_id is None else bos_id)
    begins[np.cumsum([0, *(len(row) - 1 for row in rows[:-1])])] = True
    if bos_id is not None:
        labels[labels == bos_id] = IGNORED
    return _batch(inputs, labels, np.flatnonzero(begins))


def pack(segments: Sequence[tuple[IdArray, IdArray]]) -> Batch:
    """Pairs of inputs and labels of equal length as one batch; each pair is one segment."""
    lengths = [len(inputs) for inputs, _ in segments]
    inputs = np.concatenate([inputs for inputs, _ in segments]).astype(np.int64, copy=False)
    labels = np.concatenate([labels for _, labels in segments]).astype(np.int64, copy=False)
    return _batch(inputs, labels, np.cumsum([0, *lengths[:-1]]))


def _batch(inputs: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], begins: npt.NDArray[np.int64]) -> Batch:
    bounds = np.append(begins, len(inputs))
    lengths = np.diff(bounds)
    positions = np.arange(len(inputs), dtype=np.int64) - np.repeat(begins, lengths)
    return Batch(
        input_ids=torch.from_numpy(inputs)[None],
        labels=torch.from_numpy(labels),
        position_ids=torch.from_numpy(positions)[None],
        cu_seq_lens=torch.from_numpy(bounds.astype(np.int32)),
        max_length=int(lengths.max()),
        num_labels=int(np.count_nonzero(labels != IGNORED)),
    )
