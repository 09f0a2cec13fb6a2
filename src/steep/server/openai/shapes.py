"""What goes over the wire below `/v1`, in the shapes of OpenAI's API. Times are whole seconds since the epoch."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from steep.spec.completions import MAX_ROWS, MAX_TOP
from steep.spec.job import JobSpec
from steep.spec.units import Budget

Item = TypeVar("Item")
Auto = Literal["auto"]
Values = dict[str, Any]


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is no text: it holds one half of a surrogate pair") from error
    return text


Text = Annotated[str, AfterValidator(_whole)]
Key = Annotated[Text, Field(max_length=64, pattern=r"^[^=]+$")]

METHOD = "continued_pretraining"


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ErrorFields(_Answer):
    """What went wrong, which parameter it concerns, and what to do about it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(_Answer):
    """The body of an answer that is none."""

    error: ErrorFields


class ListAnswer(_Answer, Generic[Item]):
    """A part of a list. The id of its last item, as `after`, gets the next one."""

    object: Literal["list"] = "list"
    data: tuple[Item, ...]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Deleted(_Answer):
    """It is gone."""

    id: str
    object: str
    deleted: bool = True


# --------------------------------------------------------------------------------------------------------------- files


class FileObject(_Answer):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["processed"] = "processed"


# ---------------------------------------------------------------------------------------------------------------- jobs


class Hyperparameters(_Request):
    """How to train, in OpenAI's words."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=10_000)] = Field("auto", description="Times that the text is seen.")
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = Field(
        "auto", description="Times the learning rate that would be derived."
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=1_000_000)] = Field("auto", description="Sequences of a step.")


class ContinuedPretraining(_Request):
    """How to train, in Steep's words: each field is that of a job spec, and means the same."""

    hyperparameters: Hyperparameters = Hyperparameters()
    budget: Budget | None = Field(None, description="`2 epochs`, `300M tokens`, `500 steps` or `2 h`.")
    corpus: Values = Field({}, description="How text is read. The training file is its first source.")
    replay: str | Values | None = Field(None, description="`self`, a path, a mapping, or `none`.")
    training: Values = Field({}, description="As in a job spec.")
    checkpoints: Values = Field({}, description="As in a job spec.")
    evaluation: Values = Field({}, description="As in a job spec. The validation file is its first general text.")
    service: Values = Field({}, description="As in a job spec.")
    deadline: str | float | None = Field(None, description="Stop in good order after this much time.")


METHOD_FIELDS = tuple(name for name in ContinuedPretraining.model_fields if name in JobSpec.model_fields)
"""Those of a method that a job spec has under the same name."""


class MethodRequest(BaseModel):
    """What is done with the model. Others of OpenAI's methods are understood, and refused with a reason."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(description="`continued_pretraining`.")
    continued_pretraining: ContinuedPretraining = ContinuedPretraining()


class JobOrder(_Request):
    """A new job."""

    model: str = Field(max_length=1000, description="A hub id, `tiny-base`, or a directory that the server may read.")
    training_file: str = Field(max_length=100, description="Id of an uploaded file: the text to learn.")
    validation_file: str | None = Field(
        None, max_length=100, description="Id of an uploaded file of general text: what is forgotten is measured on it."
    )
    method: MethodRequest | None = Field(None, description="Must be of type `continued_pretraining`.")
    hyperparameters: Hyperparameters | None = Field(None, description="Older place of the method's own.")
    suffix: str | None = Field(
        None,
        max_length=64,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The job's name: letters, digits, dots, dashes and underscores; by default the training file's.",
    )
    seed: int | None = Field(None, ge=0, lt=2**32)
    metadata: dict[Key, Annotated[Text, Field(max_length=512)]] | None = Field(
        None, max_length=16, description="Kept as tags of the job, `key=value`."
    )
    integrations: tuple[Values, ...] | None = None


class JobError(_Answer):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class JobObject(_Answer):
    """A job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None = Field(description="The name of its export, once there is one.")
    organization_id: str = Field(description="The project.")
    status: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    status_details: str = Field(description="A sentence that says why.")
    error: JobError | None
    training_file: str
    validation_file: str | None
    hyperparameters: Values
    method: Values
    trained_tokens: int | None
    seed: int
    user_provided_suffix: str | None
    metadata: dict[str, str]
    result_files: tuple[str, ...] = ()
    integrations: None = None


class JobEvent(_Answer):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: Values


class CheckpointObject(_Answer):
    """A checkpoint of a job."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: Values = Field(description="Bits per byte of the hold-outs, gain and forgetting, as far as measured.")


# -------------------------------------------------------------------------------------------------------------- models


class ModelObject(_Answer):
    """A model that completes prompts."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


# --------------------------------------------------------------------------------------------------------- completions

Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=1_000_000)]


class StreamOptions(_Request):
    """What a stream says beside the text."""

    include_usage: bool = Field(False, description="Say at the end how many tokens it took.")
    include_obfuscation: bool = Field(False, description="Is understood, and changes nothing.")


class CompletionOrder(_Request):
    """Prompts to go on from. What is None is as if it were not there."""

    model: str = Field(max_length=1000)
    prompt: Text | list[Text] | Ids | list[Ids] | None = Field(
        None, description="Texts, or ids of tokens, which are read as they are. None begins a document."
    )
    max_tokens: int | None = Field(16, ge=0, le=1_000_000)
    temperature: float | None = Field(1.0, ge=0, le=100, description="0 always takes the likeliest token.")
    top_p: float | None = Field(1.0, gt=0, le=1)
    n: int | None = Field(1, ge=1, le=MAX_ROWS, description="Texts for each prompt.")
    best_of: int | None = Field(None, description="Must be `n`, if it is given.")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | list[Text] | None = Field(None, description="Texts end before the first of these; 16 at most.")
    echo: bool | None = False
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = Field(None, description="Must be 0, if it is given.")
    frequency_penalty: float | None = Field(None, description="Must be 0, if it is given.")
    logit_bias: Values | None = Field(None, description="Must be empty, if it is given.")
    suffix: str | None = Field(None, description="Must be empty, if it is given.")
    user: str | None = Field(None, description="Is understood, and changes nothing.")


class Logprobs(_Answer):
    """How likely the model held each token of a text, in nats."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(_Answer):
    """A text, or a part of it."""

    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class Usage(_Answer):
    """How many tokens it took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionAnswer(_Answer):
    """Texts that go on from prompts; in a stream, parts of them."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: tuple[CompletionChoice, ...]
    usage: Usage | None = None
