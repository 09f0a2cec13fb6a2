"""The weights of any model of a run, by its row in the table: base, checkpoint, average, or a mix of base and checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.evaluate.compare import Kind
from steep.spec.errors import DamagedArtifact
from steep.worker.context import Context

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class RunModels:
    """One model in memory that takes on the weights of any row; fp32, on the run's device."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._catalog = CheckpointCatalog(context.run.checkpoints)
        self._damaged: set[int] = set()
        self.model: PreTrainedModel = context.load_base()
        self._base = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def available(self, kind: Kind, step: int) -> bool:
        """Whether the weights still lie there, and are not known to be damaged."""
        return kind == "base" or (step in self._catalog.steps() and step not in self._damaged)

    def load(self, kind: Kind, step: int, alpha: float | None = None) -> PreTrainedModel:
        """The model with the weights of that row.

        Raises:
            DamagedArtifact: the checkpoint's bytes are not those of its manifest.
        """
        self.model.load_state_dict(self._weights(kind, step, alpha))
        return self.model

    def load_sound(self, kind: Kind, step: int, alpha: float | None = None) -> PreTrainedModel | None:
        """The same, or nothing where the checkpoint is damaged; which is told, once."""
        try:
            return self.load(kind, step, alpha)
        except DamagedArtifact as error:
            if step not in self._damaged:
                told = f"checkpoint {step} is damaged and is passed over: {error}"
                self._context.notice("damaged_checkpoint", told, warning=True)
            self._damaged.add(step)
            return None

    def _weights(self, kind: Kind, step: int, alpha: float | None) -> dict[str, Tensor]:
        from steep.model.interpolate import interpolate
        from steep.train.checkpoint import load_average, load_weights

        if kind == "base":
            return self._base
        trained = load_weights(self._catalog, step)
        if kind == "average":
            trained |= load_average(self._catalog, step) or {}
        whole = {**self._base, **self._merged(trained)}
        return whole if alpha is None else interpolate(self._base, whole, alpha)

    def _merged(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapters become part of the weights that they adapt."""
        lora = self._context.recipe.lora
        if lora is None:
            return weights
        from steep.model.lora import merge_weights

        return merge_weights(self._base, weights, lora)
