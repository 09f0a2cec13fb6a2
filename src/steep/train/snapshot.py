"""A frozen view of live tensors that costs a copy only when one of them is about to change.

Between two optimizer steps the weights and the optimizer's state do not change, so a checkpoint may be written from
them directly while the next gradients are computed. Just before the next update, `freeze` copies what is not yet
written, and training waits for that alone: never for the disk, and for nothing at all when the writer was quicker.
So a checkpoint needs at most one more copy of the state in host memory, mostly much less; the copies' memory is kept
for the next checkpoint.

On a CUDA device the writer copies everything to the host first, on a stream of its own beside the computation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PIECE_BYTES = 8 << 20
_BOUNCE_BYTES = 64 << 20


def as_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a contiguous tensor as a flat uint8 tensor that shares its memory."""
    return tensor.detach().reshape(-1).view(torch.uint8)


class Snapshot:
    """The values that some tensors have now, though training goes on.

    Args:
        tensors: live local tensors.
        buffers: host memory of an earlier snapshot, by position; taken over where sizes agree, and added to.
    """

    def __init__(self, tensors: Sequence[Tensor], buffers: dict[int, Tensor]) -> None:
        self._live: list[Tensor | None] = [as_bytes(tensor.contiguous()) for tensor in tensors]
        self._copies: dict[int, Tensor] = {}
        self._buffers = buffers
        self._lock = threading.Lock()
        self._wanted = False
        self._frozen = threading.Event()
        device = next((tensor.device for tensor in tensors if tensor.is_cuda), None)
        self._stream = None if device is None else torch.cuda.Stream(device)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def feed(self, index: int, consume: Callable[[memoryview], None]) -> None:
        """Give the bytes of one tensor to `consume`, piece by piece, and forget the tensor. Call it once a tensor."""
        if self._stream is not None:
            self.freeze()
        length = self._bytes(index).numel()
        for start in range(0, length, PIECE_BYTES):
            if self._wanted:  # a lock is not fair: without this, training would wait until all is written
                self._frozen.wait()
            with self._lock:
                consume(memoryview(self._bytes(index)[start : start + PIECE_BYTES].numpy()))
        with self._lock:
            self._live[index] = None
            self._copies.pop(index, None)

    def freeze(self) -> None:
        """Copy all that is still to be written; afterwards the live tensors may change."""
        self._wanted = True
        with self._lock:
            try:
                for index, live in enumerate(self._live):
                    if live is not None:
                        self._copies[index] = self._copy(index, live)
                        self._live[index] = None
            finally:
                self._wanted = False
                self._frozen.set()

    def _bytes(self, index: int) -> Tensor:
        live = self._live[index]
        return self._copies[index] if live is None else live

    def _copy(self, index: int, live: Tensor) -> Tensor:
        buffer = self._buffers.get(index)
        if buffer is None or buffer.numel() != live.numel():
            buffer = self._buffers[index] = torch.empty(live.numel(), dtype=torch.uint8)
        if not live.is_cuda or self._stream is None:
            return buffer.copy_(live)
        # pageable memory cannot be written beside the computation, and pinning all of it would starve the machine
        bounce = torch.empty(min(_BOUNCE_BYTES, live.numel()), dtype=torch.uint8, pin_memory=True)
        for start in range(0, live.numel(), _BOUNCE_BYTES):
            part = live[start : start + _BOUNCE_BYTES]
            with torch.cuda.stream(self._stream):
                bounce[: part.numel()].copy_(part, non_blocking=True)
            self._stream.synchronize()
            buffer[start : start + part.numel()].copy_(bounce[: part.numel()])
        return buffer
