"""Tasks through lm-evaluation-harness: registered names or local YAML files, without a network.

Data sets are read from files or from the local cache; nothing is downloaded unless HF_HUB_OFFLINE=0 says so.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steep.evaluate.taskfiles import strings_in
from steep.model.files import find_tokenizer_directory
from steep.spec.errors import InvalidInput
from steep.spec.extras import install_extra

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_WORDS = 5  # shorter fields of a task (labels, ids, single answers) say nothing about contamination
BATCH_SIZE = 8
FEWSHOT_SEED = 17


def evaluate_tasks(
    model: PreTrainedModel, tokenizer_dir: str, tasks: Sequence[str], limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Metrics of `model` on each task: `{"arc_easy": {"acc": 0.61, "acc_norm": 0.58}}`; groups expand to their tasks.

    Args:
        model: on its device, in any mode and with any attention function; it is left as it was.
        tokenizer_dir: its tokenizer, a directory or hub id `org/name[@revision]`.
        tasks: names that the harness knows, or paths of YAML files.
        limit: examples of each task at most.

    Raises:
        InvalidInput: the extra is missing, a task is unknown or malformed, or its data is not on this machine.
    """
    if not tasks:
        return {}
    loaded = _load(tuple(tasks))
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(find_tokenizer_directory(tokenizer_dir))
    for task in loaded.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)  # every model sees the same examples
    with _quiet(), _offline(), _plain_attention(model):
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_SIZE)
        try:
            measured = evaluate(wrapped, {"tasks": loaded}, limit=limit, log_samples=False, bootstrap_iters=0)
        except ValueError as error:  # whatever else the harness refuses
            raise InvalidInput(
                str(error), where="evaluation.tasks", cure="Leave that task out, or mend its YAML file."
            ) from error
    return {task: _metrics(values) for task, values in measured["results"].items()}


def require_tasks(tasks: Sequence[str]) -> None:
    """Load the tasks, so that what is wrong with one of them is said before anything is trained.

    Raises:
        InvalidInput: as `evaluate_tasks`.
    """
    if tasks:
        _load(tuple(tasks))


def task_texts(tasks: Sequence[str]) -> Iterator[str]:
    """Every text of the tasks' evaluation examples: questions, passages, long answers; to decontaminate against.

    Fields of fewer than `MIN_WORDS` words are left out.

    Raises:
        InvalidInput: as `evaluate_tasks`.
    """
    for task in _load(tuple(tasks)).values() if tasks else ():
        for document in task.eval_docs:
            yield from (text for text in strings_in(document) if len(text.split()) >= MIN_WORDS)


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """`{"acc,none": 0.5, "acc_stderr,none": "N/A"}` to `{"acc": 0.5}`; a metric keeps the name of a filter that matters."""
    found = {}
    for key, value in values.items():
        metric, _, filtered_by = key.partition(",")
        if isinstance(value, int | float) and filtered_by and not metric.endswith("_stderr"):
            found[metric if filtered_by == "none" else f"{metric} ({filtered_by})"] = float(value)
    return found


@functools.lru_cache(maxsize=4)
def _load(tasks: tuple[str, ...]) -> dict[str, Any]:
    """The harness's task objects by name."""
    files = [task for task in tasks if task.endswith((".yaml", ".yml"))]
    with _quiet(), _offline():
        manager = _manager(include_defaults=len(files) < len(tasks))
        loaded: dict[str, Any] = {}
        for task in tasks:
            if task not in files and task not in manager.all_tasks:
                raise _unknown(task, manager.all_tasks)
            try:
                loaded |= manager.load([_configuration(task) if task in files else task])["tasks"]
            except InvalidInput:
                raise
            except OSError as error:  # ConnectionError and FileNotFoundError among them
                raise InvalidInput(
                    f"the data of this task is not on this machine ({error})",
                    where=f"task {task}",
                    cure="Give a YAML file over local data, or set HF_HUB_OFFLINE=0 once to let it be downloaded and cached.",
                ) from error
            except Exception as error:  # the harness raises whatever a task's own configuration leads to
                raise InvalidInput(
                    f"cannot be loaded: {type(error).__name__}: {error}",
                    where=f"task {task}",
                    cure="Mend the task's YAML; see the task guide of lm-evaluation-harness.",
                ) from error
    for name, loaded_task in loaded.items():
        _refuse_what_cannot_be_measured(name, loaded_task)
    return loaded


def _refuse_what_cannot_be_measured(name: str, task: Any) -> None:
    """What the harness itself would refuse, but only once there is a model."""
    if getattr(task, "UNSAFE_CODE", False):
        why = "runs code that a model wrote"
    elif getattr(task, "MULTIMODAL", False):
        why = "needs more than text"
    else:
        return
    raise InvalidInput(f"this task {why}", where=f"task {name}", cure="Leave that task out, or mend its YAML file.")


@functools.lru_cache(maxsize=2)
def _manager(*, include_defaults: bool) -> Any:
    """The harness's index of tasks. Reading its own takes ten seconds, so it is read only when a name is asked for."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise InvalidInput(
            f"tasks need lm-evaluation-harness, which is not installed ({error})",
            where="evaluation.tasks",
            cure=install_extra("tasks"),
        ) from error
    return TaskManager(include_defaults=include_defaults)


def _configuration(file: str) -> Any:
    """A local YAML task; paths of its data files are taken from the file's own directory."""
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise InvalidInput("there is no such task file", where=file, cure="Check the path.")
    config = load_yaml(path, resolve_func=True)
    if "group" in config or not isinstance(config.get("task"), str):
        return str(path)
    kwargs = dict(config.get("dataset_kwargs") or {})
    if "data_files" in kwargs:
        kwargs["data_files"] = _resolve(kwargs["data_files"], path.parent)
        config["dataset_kwargs"] = kwargs
    return config


def _resolve(value: Any, directory: Path) -> Any:
    if isinstance(value, str):
        return value if "://" in value else str(directory / value)
    if isinstance(value, Mapping):
        return {key: _resolve(each, directory) for key, each in value.items()}
    return [_resolve(each, directory) for each in value]


def _unknown(task: str, known: Sequence[str]) -> InvalidInput:
    close = difflib.get_close_matches(task, known, n=3, cutoff=0.6)
    return InvalidInput(
        f"there is no task {task!r}",
        where="evaluation.tasks",
        cure=f"Did you mean {' or '.join(close)}?"
        if close
        else "Give a task of lm-evaluation-harness, or the path of a YAML file.",
    )


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep the harness from the network, whether or not the hub's libraries have read the environment already."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("0", "false", "no"):
        yield
        return
    try:
        modules: list[Any] = [
            importlib.import_module(name) for name in ("datasets.config", "huggingface_hub.constants")
        ]
    except ImportError:  # without the extra there is nothing that could reach the network
        yield
        return
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value


@contextlib.contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """The harness pads its batches, which packed attention does not know."""
    before = model.config._attn_implementation
    training = model.training
    model.set_attn_implementation("sdpa")
    model.eval()
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        model.train(training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The harness draws bars and logs advice; what matters of it is returned or raised."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
