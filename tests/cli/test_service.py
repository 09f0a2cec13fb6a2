"""The commands of the service, against a real server that `steep up` started, one for all tests of this file."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from steep.cli.service.process import find_server
from steep.client.config import read_config

STEEP = Path(sys.executable).with_name("steep")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path) -> dict[str, str]:
    """A user of our own: nothing of whoever runs the tests is read or written."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STEEP_")}
    places = {"XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache", "HOME": "home"}
    made = {name: str(home / place) for name, place in places.items()}
    return {**kept, **made, "COLUMNS": "160", "OMP_NUM_THREADS": "1", "STEEP_DEBUG": ""}


def steep_in(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [STEEP, *map(str, arguments)]
    return subprocess.run(
        command, cwd=home / "home", env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's directory, with a server at work, and text and a tiny job."""
    home = tmp_path_factory.mktemp("user")
    text = home / "home" / "text"
    text.mkdir(parents=True)
    for number in range(40):
        lines = (f"Kettle {number} holds {number + i} cups of tea, and tea {i * 7} is strong.\n" for i in range(20))
        (text / f"{number}.txt").write_text("".join(lines))
    (home / "home" / "job.yaml").write_text(yaml.safe_dump(TINY))
    done = steep_in(home, "up", "--detach", "--cold", "--port", free_port())
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Next:  .*steep'? jobs submit JOB.yaml --watch", done.stdout)
    yield home
    done = steep_in(home, "down")
    assert "is stopped" in done.stdout, done.stdout + done.stderr
    assert find_server(home / "data" / "steep") is None


@pytest.fixture
def call(home, call, monkeypatch):
    """Call a command as that user."""
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    for name in ("STEEP_SERVER", "STEEP_KEY", "STEEP_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(home / "home")
    return call


@pytest.fixture
def answer(call):
    """Call a command with --json, and read what it answers."""

    def ask(*arguments):
        code, out, err = call(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return ask


CONFIG = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
TINY = {
    "name": "tiny",
    "base": {"from_scratch": {"config": CONFIG, "vocab_size": 300}},
    "corpus": {"sources": [{"path": "text", "exclude": ["39.txt"]}], "holdout": "20%", "dedup": {"near": None}},
    "replay": "none",
    "training": {
        "budget": "6 steps", "sequence_tokens": 64, "global_batch_tokens": 256, "learning_rate": 3e-3,
        "precision": "fp32",
    },
    "checkpoints": {"every": "3 steps", "keep_last": 2},
    "evaluation": {"max_tokens": 500, "interpolate": [], "forgetting_budget": 1.0},
}  # fmt: skip


# -------------------------------------------------------------------------------------------------------- the server


@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_server_that_cannot_be_is_told_of_with_its_cure(tmp_path: Path, command: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['fastapi'] = None\n")  # as if not installed
    done = subprocess.run(
        [STEEP, command], cwd=tmp_path / "home", env={**environment(tmp_path), "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "a server needs fastapi, which is not installed" in done.stderr
    assert "[server]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "data").glob("**/server.json"))


def test_a_second_up_finds_the_first(home, answer, call):
    facts = answer("up")
    assert facts["started"] is False
    config = home / "config" / "steep" / "config.toml"
    assert read_config(config).server == facts["server"]
    assert config.stat().st_mode & 0o777 == 0o600
    assert "at work already" in call("up")[1]


def test_status_and_gpus(answer, call):
    assert answer("status")["devices"] == 1
    assert "of 1 in use" in call("status")[1]
    assert [device["kind"] for device in answer("gpus")] == ["cpu"]
    assert "free" in call("gpus")[1]


def test_doctor_finds_the_server(answer):
    found = {one["about"]: one for one in answer("doctor")}
    assert found["server"]["level"] == "ok"
    assert "the key is good" in found["server"]["text"]
    assert found["clock"]["level"] == "ok"
    assert found["data directory"]["level"] == "ok"


def test_ctrl_c_stops_a_server_in_good_order(tmp_path):
    (tmp_path / "home").mkdir()
    port = free_port()
    up = subprocess.Popen(
        [STEEP, "up", "--cold", "--port", str(port)], cwd=tmp_path / "home", env=environment(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    data = tmp_path / "data" / "steep"
    said = "".join(up.stdout.readline() for _ in range(6))
    assert "Ctrl-C stops the server" in said
    server = find_server(data)
    assert server is not None
    assert server.pid != up.pid
    taken = steep_in(tmp_path, "up", "--data", tmp_path / "other", "--port", port)
    assert taken.returncode == 2
    assert f"port {port}" in taken.stderr
    os.killpg(up.pid, signal.SIGINT)  # as a terminal does it
    rest, _ = up.communicate(timeout=30)
    assert up.returncode == 0, rest
    assert "Jobs are kept" in rest
    assert not server.lives
    assert '"level": "error"' not in (data / "logs" / "server.log").read_text()


def test_a_server_that_cannot_start_says_why(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "data" / "steep").mkdir(parents=True)
    (tmp_path / "data" / "steep" / "steep.db").write_bytes(b"this is no database " * 100)
    done = steep_in(tmp_path, "up", "--detach", "--cold", "--port", free_port())
    assert done.returncode in (1, 2)
    assert "the server ended with exit code" in done.stderr
    assert "database" in done.stderr


# ---------------------------------------------------------------------------------------------------------------- jobs


def test_a_job_from_submit_to_its_export(home, call, answer):
    """Its text is uploaded, as it would be to a server elsewhere; the one file that it leaves out is not sent."""
    code, out, err = call("jobs", "submit", "job.yaml", "--upload", "--watch", "--name", "whole", "--tag", "tea")
    assert code == 0, out + err
    assert "train: step 6/6" in out
    assert "Selected: step" in out
    assert "Uploaded text.tar.gz" in err
    (job,) = answer("jobs", "list", "--name", "whole")
    assert job["standing"]["state"] == "succeeded"
    assert job["tags"] == ["tea"]
    spec = answer("jobs", "show", "whole")["spec"]
    assert spec["corpus"]["sources"][0]["path"].startswith("steep://files/")
    accounting = json.loads((home / "data/steep/runs" / job["id"] / "dataset/accounting.json").read_text())
    assert accounting["documents_read"] == 39, accounting
    assert "succeeded" in call("jobs", "show", "whole")[1]
    assert len(answer("jobs", "results", "whole")["scores"]) >= 2

    assert call("jobs", "download", "whole")[0] == 0
    assert (home / "home" / "whole" / "config.json").exists()
    step = answer("checkpoints", "list", job["id"])[-1]["step"]
    place = Path(answer("jobs", "download", "whole", "--checkpoint", step, "--to", "kept")["path"])
    assert (place / "manifest.json").exists()

    assert answer("checkpoints", "verify", job["id"], step) == [{"step": step, "valid": True, "problem": None}]
    assert (
        f"Selected: {answer('jobs', 'show', 'whole')['outcome']['selected']}, gain "
        in call("checkpoints", "list", job["id"])[1]
    )
    assert call("checkpoints", "pin", job["id"], step)[0] == 0
    code, _, err = call("checkpoints", "delete", job["id"], step)
    assert code == 2
    assert "pinned" in err
    assert call("checkpoints", "unpin", job["id"], step)[0] == 0
    assert "selected" in call("checkpoints", "compare", job["id"])[1]
    code, _, err = call("checkpoints", "evaluate", job["id"], step)
    assert code == 2
    assert "Give --task or --text." in err

    kinds = [event["kind"] for event in answer("jobs", "events", "whole")]
    assert kinds[0] == "created"
    assert kinds[-1] in ("succeeded", "checkpoint_unpinned")
    code, out, _ = call("jobs", "events", "whole", "--follow")
    assert code == 0
    assert "succeeded" in out
    code, out, err = call("jobs", "logs", "whole", "--stream", "stdout")
    assert code == 0
    assert out or f"steep jobs events {job['id']}" in err

    code, _, err = call("jobs", "submit", "job.yaml", "--upload", "--hold", "--name", "another", "--tag", "tea")
    assert code == 0
    assert "was uploaded before" in err  # the same files make the same archive
    assert answer("jobs", "cancel", "another")[0]["standing"]["state"] == "cancelled"
    freed = answer("jobs", "delete", "whole", "another", "--yes")
    assert freed[0]["freed_bytes"] > 100_000
    assert answer("jobs", "list", "--tag", "tea") == []


def test_a_job_that_is_held_waits_for_a_person(call, answer):
    code, out, err = call("jobs", "submit", "job.yaml", "--hold", "--name", "held", "--priority", "5")
    assert code == 0, err
    assert "(held) is paused" in out
    (job,) = answer("jobs", "list", "--name", "held")
    assert job["priority"] == 5
    code, _, err = call("jobs", "submit", "job.yaml", "--hold", "--name", "held", "--watch")
    assert code == 3
    assert "steep jobs resume job-" in err
    code, _, err = call("jobs", "show", "held")
    assert code == 2
    assert "2 jobs have this name" in err
    assert job["id"] in err
    updated = answer("jobs", "update", job["id"], "--priority", "-3", "--time-limit", "2 h")
    assert (updated["priority"], updated["limits"]["time"]) == (-3, 7200.0)
    limits = answer("jobs", "update", job["id"], "--cost-limit", "9")["limits"]
    assert (limits["time"], limits["cost"]) == (7200.0, 9.0)
    assert call("jobs", "update", job["id"], "--time-limit", "soon")[0] == 2
    assert call("jobs", "update", job["id"])[0] == 2
    clone = answer("jobs", "clone", job["id"], "--name", "cloned", "--set", "seed=3", "--set", "service.held=true")
    assert answer("jobs", "show", clone["id"])["spec"]["seed"] == 3
    code, _, err = call("jobs", "delete", clone["id"])  # nobody can be asked here
    assert code == 2
    assert "--yes" in err
    code, _, err = call("jobs", "declare-lost", clone["id"])
    assert code == 2
    assert "--yes" in err
    assert "it has no attempt now" in call("jobs", "declare-lost", clone["id"], "--yes")[2]
    assert call("jobs", "cancel", "cloned", job["id"])[0] == 0
    code, out, err = call("jobs", "watch", "cloned")
    assert code == 1
    assert "was cancelled" in err
    assert call("jobs", "pause", "cloned")[0] == 2


def test_a_dry_run_submits_nothing(call, answer):
    before = len(answer("jobs", "list", "--all"))
    code, out, _ = call("jobs", "submit", "job.yaml", "--dry-run")
    assert code == 0
    assert out.startswith("Valid.")
    assert answer("jobs", "submit", "job.yaml", "--dry-run")["valid"] is True
    assert len(answer("jobs", "list", "--all")) == before


def test_what_is_wrong_is_said_with_its_place_and_its_cure(call, tmp_path):
    code, _, err = call("jobs", "submit", "job.yaml", "--set", "corpus.sources=[/etc/hostname]")
    assert code == 2
    assert "corpus.sources.0.path" in err
    assert "`steep jobs submit --upload`" in err
    code, _, err = call("jobs", "submit", "job.yaml", "--project", "No Such")
    assert code == 2
    assert "service.project" in err
    assert call("jobs", "show", "nobody")[0] == 2
    assert call("jobs", "show", "job-000000000000")[0] == 2
    assert call("checkpoints", "list", "job-000000000000")[0] == 2
    assert "is not a run directory" in call("checkpoints", "list", tmp_path)[2]


def test_jobs_are_listed_by_the_words_that_they_are_shown_with(call, answer):
    call("jobs", "submit", "job.yaml", "--hold", "--name", "waits-for-me")
    assert "waits-for-me" in [job["name"] for job in answer("jobs", "list", "--state", "paused")]
    code, _, err = call("jobs", "list", "--state", "pausing")
    assert code == 2
    assert "--state: there is no state 'pausing'" in err
    assert "succeeded, failed, cancelled, paused" in err
    assert "validation" not in err


def test_one_job_that_refuses_keeps_no_other_from_being_asked(call, answer):
    for name in ("first", "second", "third"):
        call("jobs", "submit", "job.yaml", "--hold", "--name", name)
    assert call("jobs", "cancel", "second")[0] == 0
    code, out, err = call("jobs", "pause", "first", "second", "third")
    assert code != 0
    assert "(first) is paused" in out
    assert "(third) is paused" in out
    assert "was cancelled and cannot be" in err
    assert "resumed: it is not paused" in call("jobs", "resume", "second")[2]


def test_a_job_is_known_by_its_name_where_a_run_directory_could_be(call):
    call("jobs", "submit", "job.yaml", "--hold", "--name", "called-so")
    assert "called-so" in call("status", "called-so")[1]
    assert call("checkpoints", "list", "called-so")[0] == 0
    assert "is not a run directory" in call("checkpoints", "list", "nobody-is-called-so")[2]


def test_a_port_that_is_not_used_is_said_to_be_so(call):
    port = free_port()
    code, out, err = call("up", "--detach", "--port", port)
    assert code == 0
    assert f"--port {port} is not used" in out + err


# ------------------------------------------------------------------------------------------- files, keys, projects, secrets


def test_files_come_back_as_they_were(call, answer, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(os.urandom(200_000))
    (view,) = answer("files", "upload", path)
    assert view["id"] in call("files", "list")[1]
    place = Path(answer("files", "download", view["id"], "--to", tmp_path / "back.txt")["path"])
    assert place.read_bytes() == path.read_bytes()
    assert answer("files", "delete", view["id"], "--yes") == [{"id": view["id"], "freed_bytes": 200_000}]
    assert view["id"] not in call("files", "list")[1]
    assert call("files", "upload", tmp_path / "none.txt")[0] == 2


def test_a_key_is_printed_once_and_opens_what_it_may(call, answer, monkeypatch):
    code, secret, err = call("keys", "create", "a reader", "--role", "viewer", "--expires", "90 d")
    assert code == 0
    assert secret.startswith("steep_")
    assert "viewer" in err
    (view,) = (key for key in answer("keys", "list") if key["name"] == "a reader")
    assert "secret" not in view
    assert secret.strip() not in call("keys", "get", view["id"])[1]
    monkeypatch.setenv("STEEP_KEY", secret.strip())
    assert call("jobs", "list")[0] == 0
    code, _, err = call("jobs", "submit", "job.yaml", "--hold")
    assert code == 2
    assert "higher role" in err or "member" in err
    monkeypatch.delenv("STEEP_KEY")
    assert answer("keys", "update", view["id"], "--role", "member")["role"] == "member"
    assert answer("keys", "usage", view["id"], "--by", "hour")["bucket_seconds"] == 3600
    assert answer("keys", "usage", view["id"])["bucket_seconds"] == 86_400
    assert call("keys", "revoke", view["id"])[0] == 2  # nobody can be asked here
    assert call("keys", "revoke", view["id"], "--yes")[0] == 0
    monkeypatch.setenv("STEEP_KEY", secret.strip())
    code, _, err = call("jobs", "list")
    assert code == 2
    assert "steep login" in err


def test_login_remembers_a_key_that_the_server_took(home, call, answer, monkeypatch):
    config = home / "config" / "steep" / "config.toml"
    known = read_config(config)
    monkeypatch.setattr("sys.stdin", io.StringIO("steep_wrong\n"))
    assert call("login", known.server, "--key-stdin")[0] == 2
    assert read_config(config) == known
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{known.key}\n"))
    config.unlink()
    assert call("login", f"{known.server}/", "--key-stdin")[0] == 0
    assert read_config(config) == known
    assert config.stat().st_mode & 0o777 == 0o600


def test_projects_have_quotas_that_can_be_lifted(call, answer):
    made = answer("projects", "create", "physics", "--gpus", "4", "--stored", "2 TB")
    assert made["quota"] == {"gpus": 4, "jobs": None, "stored_bytes": 2 * 10**12}
    changed = answer("projects", "update", "physics", "--gpus", "none", "--jobs", "3")
    assert changed["quota"] == {"gpus": None, "jobs": 3, "stored_bytes": 2 * 10**12}
    assert "0 of 3" in call("projects", "list")[1]
    assert "keeps all" in call("projects", "update", "physics", "--share", "2")[1]
    kept = answer("projects", "update", "physics", "--keep-after", "7 h", "--keep-last", "3")["keep"]
    assert kept == {"after_seconds": 7 * 3600, "last": 3, "best": 1}
    assert "3 newest, 1 best, 7 h 00 min after the end" in call("projects", "list")[1]
    assert answer("projects", "update", "physics", "--keep-after", "none")["keep"] == {**kept, "after_seconds": None}
    assert call("projects", "update", "physics", "--keep-after", "soon")[0] == 2
    assert call("projects", "update", "physics", "--gpus", "many")[0] == 2
    assert call("projects", "update", "chemistry", "--gpus", "1")[0] == 2


def test_what_cannot_be_measured_or_pruned_is_told(call, answer):
    job = answer("jobs", "submit", "job.yaml", "--hold", "--name", "to-measure")["id"]
    code, _, err = call("checkpoints", "evaluate", job, "8")
    assert (code, "nothing is to be measured" in err) == (2, True)
    code, _, err = call("checkpoints", "evaluate", job, "8", "--text", "text")
    assert (code, "has no checkpoint of step 8" in err) == (2, True)
    assert answer("checkpoints", "prune", job) == {"steps": [], "aside_steps": [], "freed_bytes": 0}
    code, _, err = call("checkpoints", "evaluate", "text", "8", "--watch")
    assert code == 2, err


def test_secrets_are_never_shown(call, answer, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("hf_very_secret\n"))
    code, out, err = call("secrets", "set", "HF_TOKEN", "--stdin")
    assert code == 0, err
    assert "very_secret" not in out + err + call("secrets", "list", "--json")[1]
    assert [one["name"] for one in answer("secrets", "list")] == ["HF_TOKEN"]
    assert call("secrets", "delete", "HF_TOKEN", "--yes")[0] == 0
    assert answer("secrets", "list") == []


def test_without_a_server_a_command_says_how_to_start_one(call, monkeypatch):
    monkeypatch.setenv("STEEP_SERVER", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("STEEP_KEY", "steep_any")
    monkeypatch.setattr("steep.cli.service.connect.PATIENCE_SECONDS", 0.1)
    code, _, err = call("jobs", "list")
    assert code == 1
    assert "steep up" in err
    assert call("doctor")[0] == 1
