"""Whether a model does with a row of documents what training, scoring and the loss take for granted.

Families differ in ways that no list can keep up with: convolutions or recurrent states that run across documents, attention
that ignores the bounds, logits that are bent after the head. So each model shows what it does, on a dozen tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from steep.model.batch import pack
from steep.model.loss import head_of, hidden_states
from steep.spec.errors import InvalidModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 3e-5
"""Of logits, relative to the largest: above rounding in fp32, below what a leak or a wrong head makes. Narrower types get more."""

_FIRST, _OTHER, _SECOND = (1, 2, 3, 4), (5, 6, 7), (3, 1, 4, 2, 0)
_CURE = "Choose a base of another family, such as Llama, Qwen, Mistral, Gemma, GPT-NeoX or OLMo."


@torch.no_grad()
def require_supported(model: PreTrainedModel, where: str) -> None:
    """Run a few tokens through a model, in evaluation mode, and look at its logits.

    Raises:
        InvalidModel: documents in one row are not kept apart, a token sees those after it, or the logits are not
            made by the head alone.
    """
    try:
        reference = _logits(model, _FIRST, _SECOND)
        own = model(**_batch(_FIRST, _SECOND)).logits[0]
        neighbour = _logits(model, _OTHER, _SECOND)
        future = _logits(model, _FIRST, (*_SECOND[:-1], 1))
    except InvalidModel as error:
        raise InvalidModel(error.what, where=where, cure=error.cure) from error
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        raise InvalidModel(
            f"{type(model).__name__} cannot be called with several documents in a row ({error})",
            where=where,
            cure=_CURE,
        ) from error
    first, second = len(_FIRST), len(_SECOND)
    if _differ(reference[first:], neighbour[-second:]):
        raise InvalidModel(f"{type(model).__name__} does not keep documents in a row apart", where=where, cure=_CURE)
    if _differ(reference[:-1], future[:-1]):
        raise InvalidModel(f"{type(model).__name__} lets a token see those after it", where=where, cure=_CURE)
    if _differ(reference, own):
        raise InvalidModel(
            f"{type(model).__name__} changes its logits after the last layer in a way that is not known",
            where=where,
            cure=_CURE,
        )


def _batch(*documents: tuple[int, ...]) -> dict[str, Tensor]:
    arrays = [np.array(ids, dtype=np.int64) for ids in documents]
    return pack([(ids, ids) for ids in arrays]).model_arguments()


def _logits(model: PreTrainedModel, *documents: tuple[int, ...]) -> Tensor:
    arrays = [np.array(ids, dtype=np.int64) for ids in documents]
    return head_of(model).logits(hidden_states(model, pack([(ids, ids) for ids in arrays])))


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool(
        (one.float() - other.float()).abs().max() > max(TOLERANCE, 8 * torch.finfo(one.dtype).eps) * one.abs().max()
    )
