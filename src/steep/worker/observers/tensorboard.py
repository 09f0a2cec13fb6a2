"""TensorBoard event files."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from steep.worker.observers.scalars import ScalarObserver


class TensorBoard(ScalarObserver):
    """Writes event files below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory))

    def log(self, scalars: dict[str, float], step: int) -> None:
        """Add the numbers at this step."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
