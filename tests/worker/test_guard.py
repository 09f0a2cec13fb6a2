"""The guard at work: a run that forgets is warned of, stopped or rolled back, and ends the same however often it is killed."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import make_base
from tests.worker.guard_driver import EVERY, MOMENTS, PART_TOKENS, STEPS, Recorder, context_of, job, weights, work

from steep.artifacts.guard import GuardRecord
from steep.artifacts.lineage import Lineage
from steep.artifacts.mirror import RemoteCheckpoints
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.store import open_store
from steep.cli import pythontext
from steep.spec.errors import EXIT_STOPPED, Stopped, StoppedByGuard
from steep.spec.stages import Stage
from steep.worker import replay
from steep.worker.fingerprints import data_order
from steep.worker.guard import Guard

DRIVER = Path(__file__).with_name("guard_driver.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A base that learned a little of Python's reference, an assessed run that is to learn a cipher, and text of both."""
    place = tmp_path_factory.mktemp("guarded")
    pythontext.gather(place / "all")
    known = [path.read_text(encoding="utf-8") for path in sorted((place / "all" / "reference").glob("*.txt"))[:20]]
    texts = [path.read_text(encoding="utf-8") for path in sorted((place / "all" / "docstrings").glob("*.txt"))[:40]]
    for name, some in (("general", known), ("text", [codecs.encode(text, "rot13") for text in texts])):
        (place / name).mkdir()
        for number, text in enumerate(some):
            (place / name / f"{number}.txt").write_text(text, encoding="utf-8")
    make_base(place / "base", known, context=64)
    teach(place / "base", known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEEP_CACHE", str(place / "cache"))
        patch.setattr(replay, "PART_TOKENS", PART_TOKENS)
        run = RunDirectory(place / "assessed")
        run.write_spec(job(place))
        work(run, until=Stage.ASSESS)
        yield place


def teach(base: Path, texts: list[str]) -> None:
    """Train a base for a moment, so that it knows something that it can forget."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    ids = torch.tensor(tokenizer("\n".join(texts), verbose=False)["input_ids"][: 36 * 512]).view(-1, 8, 64)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for batch in [*ids, *ids]:
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(base)


@pytest.fixture
def make_run(place: Path, tmp_path: Path) -> Callable[..., RunDirectory]:
    """Copies of the assessed run, which deal with forgetting in this way."""

    def make(on_forgetting: str, name: str = "run") -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        shutil.copytree(place / "assessed", run.path)
        run.write_spec(job(place, on_forgetting=on_forgetting))
        return run

    return make


@pytest.fixture(scope="module")
def rolled_back(place: Path) -> tuple[RunDirectory, Recorder]:
    """A run that the guard rolled back as often as it may, and what was heard of it."""
    run, heard = RunDirectory(place / "rolled back"), Recorder()
    shutil.copytree(place / "assessed", run.path)
    run.write_spec(job(place, on_forgetting="rollback"))
    work(run, heard)
    return run, heard


def said(heard: Recorder) -> list[tuple[str, int | None]]:
    return [(one.code, one.step) for one in heard.notices if one.code.startswith("guard_")]


def break_checkpoint(run: RunDirectory, step: int) -> None:
    file = run.checkpoints / f"step-{step:08d}" / "weights-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


# ---- rollback


def test_it_is_rolled_back_twice_at_most(rolled_back: tuple[RunDirectory, Recorder]) -> None:
    run, heard = rolled_back
    assert said(heard) == [("guard_rolled_back", 6), ("guard_rolled_back", 9), ("guard_warned", 9)]
    first, second, last = [one.message for one in heard.notices if one.code.startswith("guard_")]
    assert "bits per byte worse than the base at steps 3 and 6" in first
    assert first.endswith("beyond the budget of 0.05; training goes on from step 3 with rate 0.005 and 10% replay")
    assert second.endswith("training goes on from step 3 with rate 0.0025 and 20% replay")
    assert last.endswith("it was rolled back 2 times already; training goes on")
    expected = [*range(1, 7), *range(4, 10), *range(4, STEPS + 1)]
    assert [one.step for one in heard.steps] == expected
    assert [one.learning_rate for one in heard.steps if one.step == 4] == pytest.approx([1e-2, 5e-3, 2.5e-3])
    assert [line.steps for line in Lineage.read(run).abandoned] == [(6,), (6, 9)]
    assert [one.message for one in GuardRecord.read(run.path).rollbacks] == [first, second]


def test_training_goes_on_with_text_that_was_not_seen(rolled_back: tuple[RunDirectory, Recorder]) -> None:
    """Each sequence of the corpus once, in its order, though another share of all sequences comes of it."""
    run, _ = rolled_back
    context = context_of(run)
    guard, manifest = Guard(context), run.catalog().get(3)
    before = data_order(context, context.planned, context.replay_of(GuardRecord())).counts(manifest.cursor)["text"]
    after = data_order(context, context.recipe)
    assert after.share("self") == pytest.approx(0.2)
    assert after.counts(guard.cursor_after(manifest))["text"] == before > 0
    end = run.catalog().get(STEPS)
    assert end.cursor == guard.cursor_after(manifest) + (STEPS - 3) * 8
    assert guard.cursor_after(end) == end.cursor


def test_more_replay_is_sampled_where_more_is_needed(rolled_back: tuple[RunDirectory, Recorder]) -> None:
    context = context_of(rolled_back[0])
    assert [one.replay for one in context.guard.rollbacks] == ["train-1", "train-2"]
    records = [context.guard.model_copy(update={"rollbacks": context.guard.rollbacks[:number]}) for number in range(3)]
    planned, once, twice = (len(context.replay_of(record)["self"]) for record in records)
    assert planned < once < twice


def test_the_results_tell_of_it_and_another_call_does_nothing(rolled_back: tuple[RunDirectory, Recorder]) -> None:
    run, heard = rolled_back[0], Recorder()
    work(run, until=Stage.SELECT)
    results = run.results()
    assert results is not None
    assert [row.step for row in results.scores if row.kind == "checkpoint"] == list(range(EVERY, STEPS + 1, EVERY))
    told = [f"the guard went back: {one.message}" for one in GuardRecord.read(run.path).rollbacks]
    assert list(results.warnings[:2]) == told
    work(run, heard, until=Stage.SELECT)
    assert [one.event for one in heard.stages] == ["skipped"] * 5


def test_stopped_again_and_again_it_ends_with_the_same_weights(
    rolled_back: tuple[RunDirectory, Recorder], make_run: Callable[..., RunDirectory]
) -> None:
    """Every two steps, so at some that are evaluated as well."""
    run, calls = make_run("rollback"), 0
    while True:
        count = iter(range(1000))
        try:
            work(run, should_stop=lambda count=count: "SIGTERM was received" if next(count) >= 4 else None)  # type: ignore[misc]
            break
        except Stopped:
            calls += 1
    assert calls > 8
    assert weights(run) == weights(rolled_back[0])
    assert GuardRecord.read(run.path) == GuardRecord.read(rolled_back[0].path)


def test_killed_at_any_moment_it_ends_with_the_same_weights(
    rolled_back: tuple[RunDirectory, Recorder], make_run: Callable[..., RunDirectory], place: Path
) -> None:
    run = make_run("rollback")
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [sys.executable, DRIVER, run.path],
        env={**os.environ, "STEEP_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(MOMENTS)
    assert weights(run) == weights(rolled_back[0])
    assert GuardRecord.read(run.path) == GuardRecord.read(rolled_back[0].path)


def test_the_store_follows(make_run: Callable[..., RunDirectory], tmp_path: Path) -> None:
    """The copies are of one run, though its data order is another one after a rollback."""
    run, heard = make_run("rollback"), Recorder()
    spec = run.spec()
    store = {"checkpoints": spec.checkpoints.model_copy(update={"store": str(tmp_path / "store")})}
    run.write_spec(spec.model_copy(update=store))
    work(run, heard)
    assert [one.detail for one in heard.checkpoints if one.event == "upload_failed"] == []
    owner = run.catalog().get(3).order_fingerprint
    assert run.catalog().get(STEPS).order_fingerprint != owner
    assert RemoteCheckpoints(open_store(str(tmp_path / "store")), spec.name, owner).steps() == run.catalog().steps()


def test_a_checkpoint_that_is_damaged_is_passed_over(make_run: Callable[..., RunDirectory], place: Path) -> None:
    """Down to the base, when none is left."""
    run, heard = make_run("stop"), Recorder()
    with pytest.raises(StoppedByGuard):
        work(run)
    for step in run.catalog().steps():
        break_checkpoint(run, step)
    run.write_spec(job(place, on_forgetting="rollback"))
    work(run, heard)
    assert "damaged_checkpoint" in [one.code for one in heard.notices]
    assert GuardRecord.read(run.path).rollbacks[0].to_step == 0
    assert "training goes on from the base with rate 0.005" in GuardRecord.read(run.path).rollbacks[0].message
    assert heard.steps[0].step == 1
    assert heard.steps[0].learning_rate == pytest.approx(5e-3)


def test_under_another_spec_what_was_done_is_void(
    rolled_back: tuple[RunDirectory, Recorder], tmp_path: Path, place: Path
) -> None:
    run, heard = RunDirectory(tmp_path / "run"), Recorder()
    shutil.copytree(rolled_back[0].path, run.path)
    spec = job(place, on_forgetting="warn")
    training = spec.training.model_copy(update={"learning_rate": 1e-3})
    run.write_spec(spec.model_copy(update={"training": training}))
    work(run, heard)
    assert heard.steps[0].step == 1
    assert heard.steps[0].learning_rate == pytest.approx(1e-3)
    assert not (run.path / "guard.json").exists()
    assert sorted(path.name for path in (run.base / "self").iterdir()) == ["holdout", "train"]


# ---- warn and stop


def test_a_warning_changes_nothing(make_run: Callable[..., RunDirectory]) -> None:
    run, heard = make_run("warn"), Recorder()
    work(run, heard)
    assert said(heard) == [("guard_warned", 6)]
    assert [one.step for one in heard.steps] == list(range(1, STEPS + 1))
    assert not (run.path / "guard.json").exists()


def test_it_stops_until_the_spec_says_otherwise(make_run: Callable[..., RunDirectory], place: Path) -> None:
    run, heard, again, further = make_run("stop"), Recorder(), Recorder(), Recorder()
    with pytest.raises(StoppedByGuard, match=r"stopped at step 6: .* beyond the budget of 0.05") as stopped:
        work(run, heard)
    assert stopped.value.exit_code == EXIT_STOPPED
    assert "on_forgetting: warn" in str(stopped.value.cure)
    assert (said(heard), heard.steps[-1].step) == ([("guard_stopped", 6)], 6)
    assert run.catalog().steps()[-1] == 6
    with pytest.raises(StoppedByGuard):
        work(run, again)
    assert again.steps == []
    run.write_spec(job(place, on_forgetting="stop", forgetting_budget=10))
    work(run, further)
    assert further.steps[0].step == 7
    straight = make_run("warn", "straight")
    work(straight)
    assert weights(run) == weights(straight)
