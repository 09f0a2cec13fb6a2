"""Stage assess: what the base knows before a step is trained, and the recipe that follows from it.

Makes a base from scratch where the job asks for one, samples text of the base's own kind, scores the base on every
hold-out, derives the recipe with its reasons, and says when continued pretraining looks like the wrong tool.
"""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import hash_text, write_atomic
from steep.artifacts.guard import GuardRecord
from steep.artifacts.space import free_bytes
from steep.artifacts.tokens import TokenDataset
from steep.planning.advice import advise, describe_texts, is_instruct
from steep.planning.disk import Held, check_disk, estimate_disk
from steep.planning.facts import Facts
from steep.planning.recipe import Recipe, derive
from steep.spec.errors import DamagedArtifact
from steep.spec.reports import EvaluationReport
from steep.spec.stages import Stage
from steep.worker.branching import trunk_of
from steep.worker.context import Context
from steep.worker.replay import SelfSampler, self_tokens_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHAPE_TEXTS = 500  # hold-out texts that are looked at for the marks of instruction data


def inputs(context: Context) -> dict[str, Any]:
    """The base, the corpus, and the parts of the spec from which the recipe is derived."""
    spec = context.spec
    return {
        "base": context.base_fingerprint,
        "corpus": context.corpus.fingerprint,
        "replay": spec.replay.model_dump(mode="json"),
        "training": spec.training.model_dump(mode="json"),
        "checkpoints": spec.checkpoints.model_dump(mode="json", exclude={"store"}),
        "evaluation": spec.evaluation.model_dump(mode="json", include={"every", "max_tokens"}),
        "seed": spec.seed,
    }


def there(context: Context) -> bool:
    """Whether the recipe and the base's scores are, text sampled from the base as written, and a base that was made here."""
    if not _samples_are_sound(context):
        return False
    made = context.spec.base.from_scratch is None or Path(context.base, "config.json").exists()
    return made and context.recipe_file.exists() and context.records.base() is not None


def _samples_are_sound(context: Context) -> bool:
    for manifest in sorted(context.self_directory.glob("*/manifest.json")):
        if (why := _damage(manifest.parent)) is not None:
            context.notice("damaged_dataset", f"text sampled from the base is damaged: {why}", warning=True)
            return False
    return True


def _damage(dataset: Path) -> str | None:
    try:
        TokenDataset(dataset).verify()
    except DamagedArtifact as error:
        return str(error)
    return None


def work(context: Context) -> dict[str, Any]:
    """Assess the base; returns the facts, the recipe and the base's scores."""
    if context.spec.base.from_scratch is not None:
        _make_base(context)
    model = context.load_base()
    facts = _facts(context, model)
    recipe = _derive(context, facts)
    if not recipe.pace_is_measured:
        model.to("cpu")  # training is measured as it will be: with the memory to itself
        facts = facts.model_copy(update={"tokens_per_second": _pace(context, recipe)})
        model.to(context.device)
        recipe = _derive(context, facts)
    _require_disk(context, facts, recipe)
    if context.spec.base.from_scratch is None:
        _sample(context, model, recipe)
    measured = context.measure(model, Stage.ASSESS)
    context.records.write("base", measured)
    context.observer.evaluation(
        EvaluationReport(
            step=0,
            tokens_seen=0,
            domain_bpb=measured.domain,
            general_bpb=measured.general,
            domain_bytes=measured.domain_bytes,
        )
    )
    known = {"domain_bpb": measured.domain_bpb, "general_bpb": measured.general_bpb}
    facts = facts.model_copy(update={key: value for key, value in known.items() if value == value})
    recipe = _derive(context, facts)
    _advise(context, facts, recipe)
    write_atomic(context.recipe_file, recipe.model_dump_json(indent=1))
    return {"facts": facts.model_dump(), "recipe": recipe.model_dump(mode="json")}


def _make_base(context: Context) -> None:
    """Random weights and the tokenizer in one directory, like any base."""
    from steep.corpus.tokenize import CorpusTokenizer
    from steep.model.files import tokenizer_files
    from steep.model.scratch import make_model

    out = Path(context.base)
    scratch = context.spec.base.from_scratch
    assert scratch is not None
    tokenizer = CorpusTokenizer.load(context.tokenizer)
    model = make_model(scratch, tokenizer.vocab_size, tokenizer.eos_id, context.spec.seed)
    staging = out.with_name(".model.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    model.save_pretrained(staging)
    for file in tokenizer_files(tokenizer.directory):
        shutil.copyfile(file, staging / file.name)
    shutil.rmtree(out, ignore_errors=True)
    staging.rename(out)


def _derive(context: Context, facts: Facts) -> Recipe:
    """The recipe. Whether the base teaches was decided by the memory that was free: once checkpoints were trained with it, it
    stays as it is, as they would be foreign otherwise."""
    spec, given = context.spec, context.spec.replay.distill
    if given is None and context.recipe_file.exists() and CheckpointCatalog(context.run.checkpoints).steps():
        before = context.planned
        if before.replay_share > 0:
            replay = spec.replay.model_copy(update={"distill": before.replay_distill})
            spec = spec.model_copy(update={"replay": replay})
    return derive(spec, facts)


def _facts(context: Context, model: PreTrainedModel) -> Facts:
    from steep.model.score import context_tokens
    from steep.train.memory import available_bytes
    from steep.train.precision import has_native_bf16

    held = sum(
        weight.numel() * weight.element_size() for weight in model.parameters()
    )  # which training will have again
    on_gpu = context.device.type == "cuda"
    config = model.config.get_text_config()
    datasets = context.corpus.train.values()
    return Facts(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        context_tokens=context_tokens(model),
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        intermediate_size=getattr(config, "intermediate_size", None),
        train_tokens=sum(len(dataset) for dataset in datasets),
        train_bytes=sum(dataset.info.text_bytes for dataset in datasets),
        replay_available=context.spec.replay.source == "self" or bool(context.corpus.replay),
        from_scratch=context.spec.base.from_scratch is not None,
        device=context.device.type,
        has_bf16=has_native_bf16(context.device),
        memory_bytes=available_bytes(context.device) + (held if on_gpu else 0),
        trunk=trunk_of(context),
    )


def _pace(context: Context, recipe: Recipe) -> float:
    """Measured training speed, which a budget in time must know; on the corpus alone, as replay is not there yet.

    It is kept: another measurement would give another number of steps, and so make what was trained before foreign.
    """
    from steep.train.pace import measure_pace
    from steep.worker.train import training_setup

    file, measured_on = context.run.base / "pace.json", _paced(context, recipe)
    known = json.loads(file.read_bytes()) if file.exists() else {}
    if known.get("measured_on") == measured_on:
        return float(known["tokens_per_second"])
    progress = context.progress(Stage.ASSESS)
    progress("measuring the training speed", 0, 1)
    alone = recipe.model_copy(update={"replay_share": 0.0})
    pace = measure_pace(training_setup(context, alone))
    progress("measuring the training speed", 1, 1)
    write_atomic(file, json.dumps({"measured_on": measured_on, "tokens_per_second": pace}))
    return pace


def _paced(context: Context, recipe: Recipe) -> str:
    """Fingerprint of all that the job says about how fast it trains."""
    speed = {"lora", "precision", "compile", "sequence_tokens"}
    given = context.spec.training.model_dump_json(include={"microbatch_sequences", "activation_checkpointing"})
    return hash_text(context.weights_fingerprint, context.device.type, recipe.model_dump_json(include=speed), given)


def _require_disk(context: Context, facts: Facts, recipe: Recipe) -> None:
    """Room for all that the run will keep, as far as it does not lie there already."""
    catalog = CheckpointCatalog(context.run.checkpoints)
    held = Held(
        checkpoints=sum(_held_bytes(catalog.path(step)) for step in catalog.steps()),
        export=_held_bytes(context.run.export),
    )
    estimate = estimate_disk(facts, recipe, context.spec.checkpoints)
    check_disk(estimate, free_bytes(context.run.path), str(context.run.path), held)


def _held_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _sample(context: Context, model: PreTrainedModel, recipe: Recipe) -> None:
    """Text of the base's own kind: always a hold-out, and replay where the job has no other."""
    wants_replay = context.spec.replay.source == "self" and recipe.replay_share > 0
    replay_tokens = self_tokens_for(recipe.replay_share * recipe.total_tokens) if wants_replay else 0
    sampler = SelfSampler.of(context, model, Stage.ASSESS)
    sampler.sample(context.self_directory, replay_tokens)
    for one in GuardRecord.read(context.run.path).rollbacks:  # whatever it had sampled and is damaged now, too
        if one.replay is not None and _damage(context.self_directory / one.replay) is not None:
            sampler.sample_replay(context.self_directory / one.replay, one.replay_tokens)


def _advise(context: Context, facts: Facts, recipe: Recipe) -> None:
    auto = context.spec.model_copy(
        update={"training": context.spec.training.model_copy(update={"learning_rate": None})}
    )
    texts = itertools.chain.from_iterable(dataset.texts() for dataset in context.corpus.holdout.values())
    found = advise(
        facts,
        recipe,
        shape=describe_texts(itertools.islice(texts, SHAPE_TEXTS)),
        instruct=is_instruct(context.base, context.base_directory),
        auto_rate=None if context.spec.training.learning_rate is None else derive(auto, facts).peak_rate,
    )
    for advice in found:
        context.notice(advice.code, advice.message, warning=asdict(advice)["level"] == "warning")
