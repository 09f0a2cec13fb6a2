"""The training sequences of each step, read ahead by one background thread.

A step's sequences follow from the cursor alone (see `corpus/order.py`), and reading one is a copy from a memory-mapped
file. So there are no worker processes, no buffers to save, and a resumed run has its first batch at once.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steep.artifacts.tokens import TokenDataset
from steep.corpus.order import DataOrder
from steep.model.batch import Batch, make_batch

READ_AHEAD_STEPS = 2
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Microbatch:
    """The sequences of one forward pass.

    Args:
        batch: all of them.
        shown: those that the base is shown as well, so that it teaches what it expects there.
        rows: int64 `[M]`; where the tokens of `shown` stand in `batch`.
    """

    batch: Batch
    shown: Batch | None = None
    rows: Tensor | None = None


@dataclass(frozen=True, slots=True)
class StepData:
    """What one optimizer step is computed from.

    Args:
        cursor: global index of its first sequence.
        microbatches: its sequences, a few in each forward pass.
        num_labels: labels of all microbatches, by which the loss is divided.
    """

    cursor: int
    microbatches: tuple[Microbatch, ...]
    num_labels: int


class Sequences:
    """Training rows by their global index: a pure function of datasets and order.

    Args:
        datasets: by the names of the order's streams.
        taught: names of the streams at whose tokens the base is asked, too.
    """

    def __init__(
        self, datasets: Mapping[str, TokenDataset], order: DataOrder, taught: Collection[str] = frozenset()
    ) -> None:
        self.order = order
        self._taught = [stream.name in taught for stream in order.streams]
        self._datasets = [datasets[stream.name] for stream in order.streams]
        info = self._datasets[0].info
        self.eos_id, self.bos_id = info.eos_id, info.bos_id

    def row(self, index: int) -> npt.NDArray[np.int64]:
        """The ids of one sequence, and one more for its last label."""
        location = self.order.locate(index)
        return self._datasets[location.stream].read(location.start, self.order.sequence_tokens + 1)

    def step(self, cursor: int, sequences: int, microbatch_sequences: int) -> StepData:
        """The microbatches of a step of `sequences` sequences from `cursor` on; the last one may be smaller."""
        microbatches = []
        for first in range(cursor, cursor + sequences, microbatch_sequences):
            last = min(first + microbatch_sequences, cursor + sequences)
            microbatches.append(self._microbatch(range(first, last)))
        return StepData(cursor, tuple(microbatches), sum(one.batch.num_labels for one in microbatches))

    def _microbatch(self, indices: range) -> Microbatch:
        rows = [self.row(index) for index in indices]
        batch = make_batch(rows, self.eos_id, self.bos_id)
        taught = [self._taught[self.order.locate(index).stream] for index in indices]
        if not any(taught):
            return Microbatch(batch)
        shown = make_batch(
            [row for row, is_taught in zip(rows, taught, strict=True) if is_taught], self.eos_id, self.bos_id
        )
        tokens = np.repeat(np.array(taught), self.order.sequence_tokens)
        return Microbatch(batch, shown, torch.from_numpy(np.flatnonzero(tokens)))


class Loader:
    """Iterates over steps for ever, from a cursor on; a context manager that ends its thread.

    Args:
        sequences: where rows come from.
        cursor: global index of the first sequence.
        sequences_per_step: sequences of an optimizer step.
        microbatch_sequences: sequences of one forward pass.
    """

    def __init__(
        self, sequences: Sequences, cursor: int, *, sequences_per_step: int, microbatch_sequences: int
    ) -> None:
        self._sequences = sequences
        self._cursor = cursor
        self._sizes = (sequences_per_step, microbatch_sequences)
        self._ready: queue.Queue[StepData | BaseException] = queue.Queue(READ_AHEAD_STEPS)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read_ahead, name="loader", daemon=True)

    def __enter__(self) -> Loader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def __iter__(self) -> Iterator[StepData]:
        while True:
            yield self.next_step()

    def next_step(self) -> StepData:
        """The next step's data. What went wrong in the background is raised here."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _read_ahead(self) -> None:
        cursor = self._cursor
        while not self._closed.is_set():
            item: StepData | BaseException
            try:
                item = self._sequences.step(cursor, *self._sizes)
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that trains
                item = error
            cursor += self._sizes[0]
            while not self._closed.is_set():
                try:
                    self._ready.put(item, timeout=_POLL_SECONDS)
                    break
                except queue.Full:
                    continue
