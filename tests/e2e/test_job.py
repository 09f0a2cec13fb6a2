"""The main job, whole: raw text and a base in, a better model with its proof out."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.conftest import Steep, reports, results

from steep.artifacts.checkpoints import CheckpointCatalog

MakeJob = Callable[..., Path]
pytestmark = pytest.mark.slow


def stage_events(run: Path) -> list[tuple[str, str]]:
    return [(report["stage"], report["event"]) for report in reports(run) if report["kind"] == "stage"]


def test_a_whole_job(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    job, run = make_job(evaluation__prompts=["Return the"]), tmp_path / "a run"
    done = steep("run", job, "--dir", run)
    assert done.returncode == 0, done.stdout + done.stderr + (run / "worker.log").read_text()
    found = results(run)
    base, *others = found["scores"]
    checkpoints = [row for row in others if row["kind"] == "checkpoint"]
    assert [row["step"] for row in checkpoints][-1] == 24
    assert {row["kind"] for row in others} == {"checkpoint", "interpolation"}
    assert checkpoints[-1]["gain"] > 0.5
    assert (base["gain"], base["forgetting"]) == (0.0, 0.0)
    (selected,) = [row for row in found["scores"] if row["selected"]]
    assert selected["gain"] == max(row["gain"] for row in others)
    assert set(base["general"]) == {"general", "self"}
    assert found["completions"][0]["base"] != found["completions"][0]["selected"]
    assert {path.suffix for path in (run / "charts").iterdir()} == {".png", ".svg"}
    _is_the_selected_model(steep, run, selected, tmp_path)
    _skips_everything_the_second_time(steep, job, run)


def _is_the_selected_model(steep: Steep, run: Path, selected: dict[str, float], tmp_path: Path) -> None:
    """The export, read by plain transformers and by `steep score`, has the bits per byte of the table."""
    import pyarrow.parquet as pq

    card = (run / "export" / "README.md").read_text(encoding="utf-8")
    assert f"{selected['gain']:+.3f}" in card or f"{selected['gain']:.3f}" in card
    (tmp_path / "holdout").mkdir()
    texts = [text for path in (run / "dataset" / "holdout").rglob("texts-*.parquet")
             for text in pq.read_table(path).column("text").to_pylist()]  # fmt: skip
    with open(tmp_path / "holdout" / "texts.jsonl", "w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    scored = steep("score", run / "export", "--text", tmp_path / "holdout", "--max-tokens", 2000, "--json")
    assert scored.returncode == 0, scored.stderr
    assert json.loads(scored.stdout)["bpb"] == pytest.approx(selected["domain_bpb"], abs=2e-3)
    plain = (
        "import sys, torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1]); tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer('Return the', return_tensors='pt').input_ids\n"
        "print(model.config._attn_implementation, model(ids).logits.isfinite().all().item())"
    )
    import sys

    said = subprocess.run([sys.executable, "-c", plain, run / "export"], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["sdpa", "True"]


def _skips_everything_the_second_time(steep: Steep, job: Path, run: Path) -> None:
    before = len(stage_events(run))
    assert steep("run", job, "--dir", run).returncode == 0
    assert {event for _, event in stage_events(run)[before:]} == {"skipped"}


def test_from_scratch_then_lora_on_it(steep: Steep, make_job: MakeJob, place: Path, tmp_path: Path) -> None:
    config = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True,
    }  # fmt: skip
    job = make_job(
        "scratch",
        base={"from_scratch": {"vocab_size": 512, "config": config}},
        replay="none",
        training__budget="16 steps",
    )
    done = steep("run", job, "--dir", "scratch")
    assert done.returncode == 0, done.stdout + done.stderr
    made = results(tmp_path / "scratch")
    assert made["scores"][-1]["domain_bpb"] < made["scores"][0]["domain_bpb"] - 0.5
    lora = make_job(
        "lora", base=str(tmp_path / "scratch" / "export"), training__method={"lora": {"rank": 8}},
        replay={"source": "self", "share": "20%"}, training__budget="12 steps",
    )  # fmt: skip
    done = steep("run", lora, "--dir", "lora")
    assert done.returncode == 0, done.stdout + done.stderr
    selected = next(row for row in results(tmp_path / "lora")["scores"] if row["selected"])
    assert selected["kind"] != "base"
    assert (tmp_path / "lora" / "export" / "adapter" / "adapter_model.safetensors").exists()


def test_a_job_that_holds_nothing_out_exports_what_it_trained(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    """A new model without any hold-out: there is nothing to choose by, and nothing to read the export back on but the corpus."""
    config = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    scratch = {"from_scratch": {"vocab_size": 300, "config": config}}
    job = make_job(base=scratch, replay="none", corpus__holdout=0, training__budget="4 steps")
    done = steep("run", job, "--dir", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    (selected,) = [row for row in results(tmp_path / "run")["scores"] if row["selected"]]
    assert (selected["kind"], selected["step"]) == ("checkpoint", 4)


def test_a_budget_in_time_is_measured(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(training__budget="5 s", evaluation__interpolate=[], checkpoints__every="2 s")
    done = steep("run", job, "--dir", "run", "--until", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    said = reports(tmp_path / "run")
    seconds = sum(report["step_seconds"] for report in said if report["kind"] == "step")
    assert 0.5 < seconds < 20  # the pace was measured on this very machine, which does other things too
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["pace_is_measured"] is True


def test_branch_and_rollback(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("trunk", checkpoints__keep_last=9)
    assert steep("run", job, "--dir", "trunk").returncode == 0
    branched = steep(
        "branch", "trunk", "--from", 12, "--set", "training.budget=16 steps", "--name", "early", "--dir", "early"
    )
    assert branched.returncode == 0, branched.stderr
    told = json.loads(steep("spec", "explain", "early/job.yaml", "--dir", "early", "--json").stdout)
    assert {one["field"]: one["value"] for one in told["recipe"]}["total_steps"] == "16"  # and not the trunk's
    done = steep("run", "early/job.yaml", "--dir", "early")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [report["step"] for report in reports(tmp_path / "early") if report["kind"] == "step"]
    assert steps == [13, 14, 15, 16]
    assert "Selected: " in steep("checkpoints", "list", "trunk").stdout
    assert steep("rollback", "trunk", "--to", 12).returncode == 0
    stands = json.loads(steep("status", "trunk", "--json").stdout)
    assert (stands["step"], stands["loss"], stands["selected"]) == (12, None, None)
    assert re.search(r"^step 12 of 24, \S+ tokens seen$", steep("status", "trunk").stdout, re.MULTILINE)
    assert "Selected: " not in steep("checkpoints", "list", "trunk").stdout
    aside = [row for row in json.loads(steep("checkpoints", "list", "trunk", "--json").stdout) if row["step"] > 16]
    assert aside
    assert all(row["gain"] is not None for row in aside)
    again = steep("run", job, "--dir", "trunk")
    assert again.returncode == 0, again.stdout
    assert "going on from step 12" in again.stdout
    listed = json.loads(steep("checkpoints", "list", "trunk", "--json").stdout)
    assert {row["line"].rpartition("/")[2] for row in listed} == {"main", "abandoned-1", "early"}


def test_a_branch_with_another_mixture_goes_on_in_the_corpus_where_it_was(
    steep: Steep, make_job: MakeJob, tmp_path: Path
) -> None:
    job = make_job("trunk", training__budget="12 steps")
    assert steep("run", job, "--dir", "trunk").returncode == 0

    def branch(name: str, *changes: str) -> subprocess.CompletedProcess[str]:
        settings = [word for change in ("training.budget=16 steps", *changes) for word in ("--set", change)]
        assert steep("branch", "trunk", "--from", 12, *settings, "--name", name, "--dir", name).returncode == 0
        return steep("run", f"{name}/job.yaml", "--dir", name)

    more = branch("more", "replay.share=40%")
    assert more.returncode == 0, more.stdout + more.stderr
    begun, sequences = 12 * 4, 4 * 4
    corpus = begun * (1 - 0.2)  # sequences of it that the trunk has seen, and which 40 % of replay reach later
    end = CheckpointCatalog(tmp_path / "more" / "checkpoints").get(16)
    assert end.cursor - sequences == pytest.approx(corpus / (1 - 0.4), abs=2)
    other = branch("other", "training.global_batch_tokens=1024")
    assert other.returncode == 2
    assert "training.global_batch_tokens" in other.stdout + other.stderr


def test_a_changed_spec_sets_old_checkpoints_aside(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    assert steep("run", make_job(), "--dir", "run").returncode == 0
    changed = steep("run", make_job(training__learning_rate=1e-3), "--dir", "run")
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert "training.learning_rate: 0.003 -> 0.001" in changed.stdout
    assert "set aside in" in changed.stdout
    events = stage_events(tmp_path / "run")
    assert ("prepare", "skipped") in events
    assert events.count(("train", "completed")) == 2
    assert all(row["step"] <= 24 for row in results(tmp_path / "run")["scores"])
    lines = {row["line"] for row in json.loads(steep("checkpoints", "list", "run", "--json").stdout)}
    assert lines == {"main", "abandoned-1"}
