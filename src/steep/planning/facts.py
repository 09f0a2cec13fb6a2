"""What is known, by measurement, of a job's base model, corpus and machine before training is planned."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Device = Literal["cpu", "cuda", "mps"]


class Trunk(BaseModel):
    """What a branch keeps of the run that it left, where its own spec says nothing else: the numbers that the state it goes on
    with was trained by."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sequence_tokens: int = Field(gt=0)
    sequences_per_step: int = Field(gt=0)
    peak_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    betas: tuple[float, float]
    replay_share: float = Field(ge=0, le=1)
    step: int = Field(ge=0, description="Where the branch begins.")

    @classmethod
    def left_at(cls, step: int, recipe: bytes) -> Trunk:
        """The run with this recipe, as JSON, which a branch leaves at a step."""
        return cls.model_validate({**json.loads(recipe), "step": step})


class Facts(BaseModel):
    """Numbers that planning works from. What is not known stays None, and planning says so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int = Field(gt=0, description="Parameters of the base model, tied ones counted once.")
    context_tokens: int = Field(gt=1, description="Longest sequence that the base model takes.")
    hidden_size: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    intermediate_size: int | None = Field(None, description="Width of the MLP; 4 x hidden size where not given.")
    train_tokens: int = Field(gt=0, description="Tokens of the corpus to train on, each counted once.")
    train_bytes: int | None = Field(None, description="UTF-8 bytes of that text.")
    replay_available: bool = Field(True, description="Whether replay text exists or can be sampled.")
    from_scratch: bool = False
    domain_bpb: float | None = Field(None, description="The base on the domain hold-out, bits per byte.")
    general_bpb: float | None = Field(None, description="The base on general text, bits per byte.")
    device: Device = "cpu"
    has_bf16: bool = Field(True, description="Whether a GPU computes in bf16 natively.")
    memory_bytes: int = Field(gt=0, description="Memory that training may use on its device.")
    tokens_per_second: float | None = Field(None, gt=0, description="Measured training speed, for budgets in time.")
    trunk: Trunk | None = Field(None, description="Of a branch: the run that it left.")

    @property
    def mlp_width(self) -> int:
        """Width of the MLP, taken as 4 x the hidden size where the config does not say."""
        return self.intermediate_size or 4 * self.hidden_size

    @property
    def bytes_per_token(self) -> float | None:
        """Fertility of the tokenizer on this corpus: UTF-8 bytes that a token stands for."""
        return None if self.train_bytes is None else self.train_bytes / self.train_tokens
