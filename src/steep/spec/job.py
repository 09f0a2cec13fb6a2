"""The job spec: all that a user says about a job, in one frozen object.

Only what the user decides stands here. What is derived from it (learning rate, batch, warmup, steps) is derived in
`planning/` from measured facts, and `steep spec explain` prints both with the reason for each value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticSerializationError

from steep.spec.service import Service
from steep.spec.units import Budget, Interval, Seconds, Share, Tokens
from steep.spec.wording import NAME


def _auto(value: Any) -> Any:
    return None if value == "auto" else value


Auto = BeforeValidator(_auto, json_schema_input_type=Literal["auto"] | float)


class Part(BaseModel):
    """Base of every part of the spec: frozen, and an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------------------------------------------------- base model


class FromScratch(Part):
    """A new model to pretrain from random weights, for bases that one makes oneself."""

    architecture: str = Field("llama", description="Hugging Face `model_type` of the new model.")
    config: dict[str, Any] = Field(default_factory=dict, description="Arguments of that architecture's config class.")
    tokenizer: str | None = Field(None, description="Path or hub id of a tokenizer; none trains one on the corpus.")
    vocab_size: int = Field(8192, ge=256, description="Entries of the byte-level BPE trained when none is given.")


class BaseModelSpec(Part):
    """Where the starting weights come from."""

    model: str | None = Field(None, description="A directory, or a hub id `org/name`, optionally `@revision`.")
    from_scratch: FromScratch | None = Field(None, description="Random weights instead of a base model.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the model. Off unless you say so.")

    @model_validator(mode="after")
    def _one_origin(self) -> BaseModelSpec:
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("give either a model (a path or a hub id) or from_scratch, not both")
        return self


def _base(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


Base = Annotated[BaseModelSpec, BeforeValidator(_base, json_schema_input_type=str | BaseModelSpec)]


# -------------------------------------------------------------------------------------------------------------- corpus


class Source(Part):
    """One place that text comes from."""

    path: str = Field(
        description="File, directory, glob, archive, http(s):// or s3:// URL, or hub dataset `hf://org/name`."
    )
    name: str | None = Field(None, description="Name in reports; by default made from the path.")
    include: tuple[str, ...] = Field(
        (), description="Globs of files to take below a directory; none takes all known formats."
    )
    exclude: tuple[str, ...] = Field((), description="Globs of files to leave out.")
    text_field: str | None = Field(
        None, description="Field that holds the text in jsonl, csv and parquet; found if clear."
    )
    weight: float = Field(1.0, gt=0, description="How often this source's tokens are seen compared with the others'.")
    split_documents: Literal["file", "paragraphs"] = Field(
        "file", description="`paragraphs` cuts whole books into documents of a few kB at blank lines."
    )
    encoding: str | None = Field(None, description="Text encoding; detected where not given.")


def _source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


AnySource = Annotated[Source, BeforeValidator(_source, json_schema_input_type=str | Source)]


class Cleaning(Part):
    """Which cleaning steps run. `standard`, `code` and `none` are presets of these."""

    fix_encoding: bool = Field(True, description="Mend mojibake and control characters (ftfy).")
    normalize: bool = Field(True, description="Unicode NFC, line ends, trailing space.")
    min_characters: int = Field(50, ge=0, description="Shorter documents are dropped.")
    max_repeated_lines: Share = Field(0.5, description="Documents with more repeated lines than this are dropped.")
    min_alphabetic: Share = Field(0.25, description="Documents with a smaller share of letters are dropped.")
    languages: tuple[str, ...] = Field((), description="ISO 639-1 codes to keep; none keeps all.")


CLEANING_PRESETS: dict[str, Cleaning] = {
    "standard": Cleaning(),
    "code": Cleaning(min_characters=20, max_repeated_lines=0.9, min_alphabetic=0.1),
    "none": Cleaning(fix_encoding=False, normalize=False, min_characters=0, max_repeated_lines=1.0, min_alphabetic=0.0),
}


def _cleaning(value: Any) -> Any:
    if isinstance(value, str):
        if value not in CLEANING_PRESETS:
            raise ValueError(f"{value!r} is not a cleaning preset; choose one of {', '.join(CLEANING_PRESETS)}")
        return CLEANING_PRESETS[value]
    return CLEANING_PRESETS["none"] if value is None else value


class Dedup(Part):
    """Removal of copies."""

    exact: bool = Field(True, description="Drop documents whose normalised text was seen before.")
    near: Share | None = Field(
        0.8, description="Jaccard similarity from which two documents are near-duplicates; null: off."
    )


class Corpus(Part):
    """The raw text to learn."""

    sources: tuple[AnySource, ...] = Field(min_length=1, description="Where the text lies; a bare path will do.")
    cleaning: Annotated[Cleaning, BeforeValidator(_cleaning, json_schema_input_type=str | Cleaning)] = Field(
        Cleaning(), description="`standard`, `code`, `none`, or the steps one by one."
    )
    dedup: Dedup = Field(Dedup(), description="Removal of copies, exact and near.")
    decontaminate: bool = Field(True, description="Drop documents that contain evaluation text.")
    holdout: Share = Field(0.01, description="Share of documents kept aside to measure what was learned.")
    max_failed: Share = Field(0.05, description="When a larger share of files cannot be read, the job is refused.")


# -------------------------------------------------------------------------------------------------------------- replay


class Replay(Part):
    """General text mixed in against forgetting."""

    source: Literal["self"] | AnySource = Field(
        "self", description="`self` samples the base model; or any corpus source."
    )
    share: Share | None = Field(
        None, description="Share of trained tokens that are replay; by default from the preset."
    )
    distill: Annotated[Share | None, Auto] = Field(
        None,
        description="At replay text, how much to learn what the base expects instead of the next token alone; `auto`: all, "
        "where the base fits in memory beside the model.",
    )


def _replay(value: Any) -> Any:
    if value is None or value == "none":
        return Replay(share=0.0)
    return {"source": value} if isinstance(value, str) else value


# ------------------------------------------------------------------------------------------------------------ training


class Lora(Part):
    """Low-rank adapters instead of full training."""

    rank: int = Field(64, ge=1, description="Width of the adapters; less than 64 learns little of a new domain.")
    alpha: float | None = Field(None, gt=0, description="Scale; 2 x rank by default.")
    dropout: Share = Field(0.0, description="Share of adapter inputs that are dropped in training.")


class Method(Part):
    """What is trained: every weight, or adapters."""

    lora: Lora | None = Field(None, description="Adapters with these settings; none trains every weight.")


def _method(value: Any) -> Any:
    if value == "full":
        return Method()
    if value == "lora":
        return Method(lora=Lora())
    if isinstance(value, str):
        raise ValueError(f"{value!r} is not a method; choose full or lora")
    return value


Beta = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(ge=0, le=1)]


class Training(Part):
    """How to train. `auto` values are derived, and `steep spec explain` says how."""

    budget: Budget | None = Field(
        None, description="`2 epochs`, `300M tokens`, `500 steps` or `2 h`; by default by corpus size."
    )
    sequence_tokens: Tokens | None = Field(
        None, gt=1, description="Tokens of a training row; by default the base's context, at most 4096."
    )
    global_batch_tokens: Tokens | None = Field(
        None, gt=0, description="Tokens of an optimizer step; by default by budget."
    )
    microbatch_sequences: int | None = Field(
        None, ge=1, description="Sequences in one forward pass; by default what fits memory."
    )
    learning_rate: Annotated[float | None, Auto] = Field(None, gt=0, description="Peak rate; `auto` derives it.")
    schedule: Literal["wsd", "cosine", "linear", "constant"] = Field(
        "wsd", description="Course of the rate; `wsd` (warmup, stable, decay) can be branched before its decay."
    )
    warmup: Share | None = Field(None, description="Share of steps that raise the rate.")
    decay: Share | None = Field(None, description="Share of steps that lower the rate at the end (WSD).")
    final_rate: Share = Field(0.0, description="Rate at the end as a share of the peak.")
    weight_decay: float = Field(0.1, ge=0, description="AdamW's decoupled decay, of matrices only.")
    betas: Annotated[tuple[Beta, Beta] | None, Auto] = Field(
        None,
        description="AdamW's averages of gradient and squared gradient; `auto` fits the second to batch and length.",
    )
    clip_norm: float = Field(1.0, gt=0, description="Gradients of a larger norm are scaled down to this.")
    method: Annotated[Method, BeforeValidator(_method, json_schema_input_type=str | Method)] = Field(
        Method(), description="`full`, `lora`, or `lora: {rank: ...}`."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Of forward and backward; weights and optimizer are always fp32."
    )
    compile: Literal["auto"] | bool = Field("auto", description="torch.compile; `auto` where it pays.")
    activation_checkpointing: Literal["auto"] | bool = Field(
        "auto", description="Compute activations again in the backward pass, to save memory; `auto` when it must be."
    )
    average: Share | None = Field(None, description="Keep an average of the weights over this last share of steps.")


class Checkpoints(Part):
    """When checkpoints are saved and which are kept."""

    every: Interval | None = Field(
        None, description="`10 min`, `500 steps` or `50M tokens`; by default a tenth of the run."
    )
    keep_last: int = Field(2, ge=1, description="Newest checkpoints that are kept.")
    keep_best: int = Field(
        1, ge=1, description="Best checkpoints that are kept: most gain within the forgetting budget."
    )
    store: str | None = Field(None, description="s3://bucket/prefix or a directory to copy checkpoints to.")


class Evaluation(Part):
    """What is measured on the base and on every checkpoint."""

    general: tuple[AnySource, ...] = Field(
        (), description="Texts on which forgetting is measured, each its own hold-out."
    )
    tasks: tuple[str, ...] = Field((), description="lm-evaluation-harness tasks: names, or paths of local YAML files.")
    task_limit: int | None = Field(None, ge=1, description="Examples of each task at most.")
    prompts: tuple[str, ...] = Field(
        (), description="Completed by the base and by the selected checkpoint, side by side."
    )
    every: Interval | None = Field(
        None, description="How often hold-outs are scored in training; by default at each checkpoint."
    )
    max_tokens: Tokens = Field(100_000, gt=0, description="Tokens scored of each hold-out at most.")
    forgetting_budget: float = Field(0.02, ge=0, description="Bits per byte that the worst general hold-out may lose.")
    on_forgetting: Literal["warn", "stop", "rollback"] = Field(
        "warn",
        description="When two evaluations in a row are beyond the budget: say so; stop; or go on from the best checkpoint with "
        "half the rate and twice the replay, at most twice.",
    )
    interpolate: tuple[Alpha, ...] = Field(
        (0.5, 0.7, 0.85), description="Shares of the checkpoint in mixes with the base."
    )


class JobSpec(Part):
    """A whole job."""

    name: str = Field(pattern=NAME, description="Letters, digits, dots, dashes and underscores.")
    tags: tuple[str, ...] = Field((), description="Words to find the job by; they change nothing.")
    base: Base = Field(description="The base model: a directory, a hub id, or a mapping.")
    corpus: Corpus = Field(description="The raw text to learn.")
    replay: Annotated[Replay, BeforeValidator(_replay, json_schema_input_type=str | Replay)] = Field(
        Replay(), description="General text mixed in against forgetting: `self`, a path, a mapping, or `none`."
    )
    training: Training = Field(Training(), description="How to train.")
    checkpoints: Checkpoints = Field(Checkpoints(), description="When checkpoints are saved and which are kept.")
    evaluation: Evaluation = Field(Evaluation(), description="What is measured, and how much may be forgotten.")
    deadline: Seconds | None = Field(None, gt=0, description="Stop in good order after this much time.")
    service: Service = Field(Service(), description="For the service alone: project, priority, GPUs, limits, alerts.")
    seed: int = Field(17, ge=0, lt=2**32, description="Of data order, dropout, sampling and new weights.")

    @model_validator(mode="after")
    def _can_be_written(self) -> JobSpec:
        """JSON can name one half of a surrogate pair, and then no file and no database takes it."""
        try:
            self.model_dump_json()
        except PydanticSerializationError as error:
            raise ValueError("holds one half of a surrogate pair, which is no text") from error
        return self
