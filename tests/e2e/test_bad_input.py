"""Whatever is wrong with the input is said before any training, in words, with exit code 2 and no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.conftest import Steep, reports

MakeJob = Callable[..., Path]
pytestmark = pytest.mark.slow


def refused(steep: Steep, job: Path, *words: str, code: int = 2) -> str:
    done = steep("run", job, "--dir", "run")
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    for word in words:
        assert word in said, said
    assert not any(report["kind"] == "step" for report in reports(job.parent / "run"))
    return said


def test_a_source_that_is_missing(steep: Steep, make_job: MakeJob) -> None:
    refused(steep, make_job(corpus__sources=["nowhere"]), "corpus.sources.0", "nowhere", "names what is not there")


def test_a_source_with_nothing_in_it(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(steep, make_job(corpus__sources=["empty"]), "empty", "there are no files")


def test_a_wrong_text_field_lists_those_there_are(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    lines = [json.dumps({"title": "a", "body": f"text number {number} " * 20}) for number in range(50)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    refused(steep, make_job(corpus__sources=[{"path": "data.jsonl", "text_field": "bdy"}]), "bdy", "title", "body")


def test_files_that_cannot_be_read(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    for number in range(4):
        (tmp_path / "bad" / f"{number}.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 20)
    refused(steep, make_job(corpus__sources=["bad"]), "0.pdf")


def test_a_base_without_network(steep: Steep, make_job: MakeJob) -> None:
    refused(steep, make_job(base="no-such-org/no-such-model"), "no-such-org/no-such-model")


def test_a_base_whose_weights_are_damaged(steep: Steep, make_job: MakeJob, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    refused(steep, make_job(base="./base"), "model.safetensors")


def test_a_sequence_longer_than_the_context(steep: Steep, make_job: MakeJob) -> None:
    refused(
        steep, make_job(training__sequence_tokens=1024, training__global_batch_tokens=4096),
        "1024 tokens are longer than the base's context of 256",
    )  # fmt: skip


def test_an_unknown_key(steep: Steep, make_job: MakeJob) -> None:
    refused(steep, make_job(training__learning_rat=1e-3), "learning_rat", "learning_rate")


def test_too_little_text_and_no_replay_are_warned_of(steep: Steep, make_job: MakeJob, tmp_path: Path) -> None:
    text = Path(json.__file__).read_text() + Path(json.decoder.__file__).read_text()
    (tmp_path / "little.txt").write_text(text)
    (tmp_path / "more.txt").write_text(Path(shutil.__file__).read_text())
    job = make_job(corpus__sources=["little.txt", "more.txt"], replay="none", training__budget="9 epochs")
    done = steep("run", job, "--dir", "run", "--until", "assess")
    assert done.returncode == 0, done.stdout + done.stderr
    codes = {report["code"] for report in reports(tmp_path / "run") if report.get("level") == "warning"}
    assert {"too_little_text", "many_epochs", "no_replay"} <= codes
