"""A worker in place of the engine: holds the run, reports, completes stages, ends as it is told to.

`python standin.py RUN [--until STAGE]`; the environment variable STANDIN says how it ends. It keeps to the same contract
as `python -m steep.worker`: lock, reports.jsonl, stages/, results.json, error.json, exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from steep.artifacts.files import write_atomic
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.tokens import ShardInfo, TokenDatasetInfo
from steep.spec.reports import CheckpointReport, EvaluationReport, NoticeReport, ProgressReport, StageReport, StepReport
from steep.spec.results import Completion, Results, Score
from steep.spec.stages import ORDER, Stage
from steep.worker.reports import RunReports

STEPS = 20


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--until")
    options = parser.parse_args()
    run = RunDirectory(options.run)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    how = os.environ.get("STANDIN", "done")
    with run.lock():
        if how == "invalid":
            return fail(run, "has no text", "/data/x", "Check corpus.sources.", 2)
        if how == "crash":
            raise RuntimeError("a bug")
        reports = RunReports(run.reports_file)
        for stage in ORDER:
            reports.stage(StageReport(stage=stage, event="started"))
            if stage == Stage.PREPARE:
                prepare(run)
            if stage == Stage.TRAIN and not train(reports, how, stopping):
                return fail(run, "stopped at step 3", None, "Run the same command to go on.", 3)
            if stage == Stage.SELECT:
                (run.path / "results.json").write_text(results().model_dump_json())
            run.complete(stage, "fingerprint", {})
            reports.stage(StageReport(stage=stage, event="completed", seconds=0.5))
            if str(stage) == options.until:
                break
    return 0


def prepare(run: RunDirectory) -> None:
    """A prepared corpus as far as it is read by commands: accounting, manifests, drops."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part, name, documents in (("train", "docs", 90), ("holdout", "docs", 10)):
        shard = ShardInfo(tokens=documents * 100, documents=documents, text_bytes=documents * 400, blake3="0")
        info = TokenDatasetInfo(
            name=name, fingerprint="f", tokenizer_fingerprint="t", dtype="uint16", vocab_size=512, eos_id=0, bos_id=None,
            shards=(shard,),
        )  # fmt: skip
        write_atomic(run.dataset / part / name / "manifest.json", info.model_dump_json())
    write_atomic(run.dataset / "accounting.json", json.dumps({"bytes_read": 45_000, "languages": {"en": 98, "de": 2}}))
    rows = [
        {"id": str(i), "source": "docs", "origin": f"docs/{i}.txt", "step": "clean", "reason": "too short",
         "text_bytes": 10 * i, "excerpt": f"text {i}"}
        for i in range(5)
    ]  # fmt: skip
    rows.append({**rows[0], "step": "dedup", "reason": "exact copy", "text_bytes": 4000, "excerpt": None})
    pq.write_table(pa.Table.from_pylist(rows), run.dataset / "drops.parquet")


def train(reports: RunReports, how: str, stopping: list[int]) -> bool:
    """Some steps; False when asked to stop."""
    reports.progress(ProgressReport(stage=Stage.TRAIN, what="sequences laid out", done=5, total=10))
    scores = {"domain_bpb": {"docs": 2.0}, "general_bpb": {"self": 1.5, "novels": 1.0}}
    reports.evaluation(EvaluationReport(step=0, tokens_seen=0, **scores))
    for step in range(1, STEPS + 1):
        reports.step(
            StepReport(
                step=step, total_steps=STEPS, tokens_seen=step * 8192, loss=5.0 - step / 10, learning_rate=1e-3,
                gradient_norm=1.0, step_seconds=0.1, tokens_per_second=81920.0, mfu=0.31, skipped=step == 2,
            )
        )  # fmt: skip
        if how == "kill" and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        while how in ("wait", "slow") and step == 3 and not stopping:
            time.sleep(0.02)
            if how == "slow" and Path(os.environ["STANDIN_GO"]).exists():
                break
        if stopping:
            return False
    reports.notice(NoticeReport(level="warning", code="spike", message="the loss leapt; step 2 was not applied"))
    better = {"domain_bpb": {"docs": 1.5}, "general_bpb": {"self": 1.48, "novels": 1.03}}
    reports.evaluation(EvaluationReport(step=STEPS, tokens_seen=STEPS * 8192, **better))
    reports.checkpoint(CheckpointReport(step=STEPS, event="saved", size_bytes=12_000_000))
    return True


def results() -> Results:
    base = Score(
        kind="base", step=0, tokens_seen=0, domain_bpb=2.0, general_bpb=1.25, gain=0, forgetting=0,
        domain={"docs": 2.0}, general={"self": 1.5, "novels": 1.0},
    )  # fmt: skip
    best = Score(
        kind="checkpoint", step=STEPS, tokens_seen=STEPS * 8192, domain_bpb=1.5, general_bpb=1.255, gain=0.5,
        forgetting=0.03, worst_general="novels", domain={"docs": 1.5}, general={"self": 1.48, "novels": 1.03},
        tasks={"arc_easy": {"acc": 0.27}}, selected=True,
    )  # fmt: skip
    return Results(
        name="job", base="/models/base", forgetting_budget=0.05, scores=(base, best),
        completions=(Completion(prompt="A decorator is", base="a house", selected="a function"),),
        selection_reason="step 20: the most gain within the budget", warnings=("little text",),
    )  # fmt: skip


def fail(run: RunDirectory, what: str, where: str | None, cure: str, code: int) -> int:
    (run.path / "error.json").write_text(json.dumps({"what": what, "where": where, "cure": cure, "exit_code": code}))
    return code


if __name__ == "__main__":
    sys.exit(main())
