"""What is uploaded where the server is elsewhere; the text that every Python has; runs and jobs told apart; checks."""

from __future__ import annotations

import json
import re
import tarfile
import time
from pathlib import Path

import pytest
from tests.client.service import KEY, Service, digest, job_view, ok, page, problem

from steep.cli import jobfile
from steep.cli.demo import make_job
from steep.cli.jobfile import read_job
from steep.cli.service import checks
from steep.cli.service.connect import is_job
from steep.cli.service.sending import is_here
from steep.client.config import Settings, config_file, write_config
from steep.spec.errors import InvalidCorpus, InvalidSpec
from steep.spec.load import load_spec

SMALL = {"name": "job", "base": "org/model", "corpus": {"sources": ["text"]}}


@pytest.fixture
def service(monkeypatch):
    """A server that takes files and jobs."""
    made = Service()
    made.files, made.jobs, made.confined_to = {}, [], None
    made.of = lambda seen: seen.query.get("project") or made.confined_to or "default"

    def listed(seen):
        asked = seen.query.get("project")
        shown = [one for one in made.files.values() if asked in (None, one["project"])]
        return page([one for one in shown if made.confined_to in (None, one["project"])], seen.query)

    def projects(seen):
        names = ["default", "physics"] if made.confined_to is None else [made.confined_to]
        return page([{"name": name, "created_at": 1.0} for name in names], seen.query)

    def upload(seen):
        project = made.of(seen)
        if made.confined_to not in (None, project):
            return problem(
                403, "no", detail=f"this key opens project {made.confined_to} and no other", code="forbidden"
            )
        number = f"file-{len(made.files)}"
        made.files[number] = {
            "id": number, "name": seen.query["name"], "project": project, "size_bytes": len(seen.body),
            "blake3": digest(seen.body), "created_at": 1.0,
        }  # fmt: skip
        made.bodies[number] = seen.body
        return ok(made.files[number], 201)

    def submit(seen):
        made.jobs.append(seen.json()["spec"])
        return ok(job_view(len(made.jobs)), 201)

    made.bodies = {}
    made.route("POST", "/files", upload)
    made.route("GET", "/files", listed)
    made.route("GET", "/projects", projects)
    made.route("POST", "/jobs", submit)
    monkeypatch.setenv("STEEP_SERVER", made.address)
    monkeypatch.setenv("STEEP_KEY", KEY)
    yield made
    made.stop()


@pytest.fixture
def elsewhere(service, monkeypatch):
    """The same, as if it were on another machine."""
    monkeypatch.setattr("steep.cli.service.sending.is_here", lambda server: False)
    return service


@pytest.fixture
def job(tmp_path):
    """A job on a directory of text with things in it that are not wanted."""
    text = tmp_path / "text"
    (text / "deep").mkdir(parents=True)
    (text / "a.md").write_text("first")
    (text / "deep" / "b.md").write_text("second")
    (text / "picture.png").write_bytes(b"\x89PNG")
    (text / ".hidden.md").write_text("no")
    (tmp_path / "one.jsonl").write_text('{"text": "third"}\n')
    sources = ["text", {"path": "one.jsonl", "weight": 2}, "s3://bucket/x"]
    general = [{"path": "text/*.md", "name": "stars"}]
    values = SMALL | {"corpus": {"sources": sources}, "evaluation": {"general": general}}
    path = tmp_path / "job.json.yaml"
    path.write_text(json.dumps(values))
    return path


def test_local_sources_are_uploaded_and_remote_ones_are_not(call, elsewhere, job, tmp_path):
    code, _, err = call("jobs", "submit", job)
    assert code == 0, err
    (spec,) = elsewhere.jobs
    sources = spec["corpus"]["sources"]
    assert [source["path"] for source in sources] == ["steep://files/file-0", "steep://files/file-1", "s3://bucket/x"]
    assert [source.get("name") for source in sources[:2]] == ["text", "one"]
    assert sources[1]["weight"] == 2
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(elsewhere.bodies["file-0"])
    with tarfile.open(packed) as archive:
        assert archive.getnames() == ["a.md", "deep/b.md"]
    general = spec["evaluation"]["general"][0]
    packed.write_bytes(elsewhere.bodies[general["path"].removeprefix("steep://files/")])
    with tarfile.open(packed) as archive:
        assert archive.getnames() == ["a.md"]


def test_what_was_uploaded_before_is_not_sent_again(call, elsewhere, job, tmp_path, monkeypatch):
    assert call("jobs", "submit", job)[0] == 0
    later = time.time() + 5000
    monkeypatch.setattr("time.time", lambda: later)
    (tmp_path / "text" / "a.md").touch()  # other times, same bytes
    assert call("jobs", "submit", job)[0] == 0
    assert len(elsewhere.files) == 3
    assert elsewhere.jobs[0] == elsewhere.jobs[1]
    (tmp_path / "text" / "a.md").write_text("another")
    assert call("jobs", "submit", job)[0] == 0
    assert len(elsewhere.files) == 5


def test_a_key_of_one_project_uploads_to_it(call, elsewhere, job):
    elsewhere.confined_to = "physics"
    for _ in range(2):
        code, _, err = call("jobs", "submit", job)
        assert code == 0, err
    assert [one["project"] for one in elsewhere.files.values()] == ["physics"] * 3
    assert call("jobs", "submit", job, "--project", "default")[0] == 2


def test_uploads_of_another_project_are_not_taken(call, elsewhere, job):
    assert call("jobs", "submit", job, "--project", "physics")[0] == 0
    assert call("jobs", "submit", job)[0] == 0
    assert [one["project"] for one in elsewhere.files.values()] == ["physics"] * 3 + ["default"] * 3
    assert elsewhere.jobs[0]["corpus"] != elsewhere.jobs[1]["corpus"]


def test_nothing_is_uploaded_to_a_server_that_reads_the_same_files(call, service, job, tmp_path):
    assert call("jobs", "submit", job)[0] == 0
    assert service.files == {}
    assert service.jobs[0]["corpus"]["sources"][0]["path"] == str(tmp_path / "text")
    assert call("jobs", "submit", job, "--upload")[0] == 0
    assert len(service.files) == 3


def test_a_base_that_lies_here_is_refused_before_anything_is_sent(call, elsewhere, job, tmp_path):
    (tmp_path / "base").mkdir()
    code, _, err = call("jobs", "submit", job, "--set", "base=./base")
    assert code == 2
    assert "base: " in err
    assert elsewhere.files == {}
    assert call("jobs", "submit", job, "--set", "base=./base", "--no-upload")[0] == 0
    assert call("jobs", "submit", job, "--set", "base=/models/on-the-server")[0] == 0


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--upload",)])
@pytest.mark.parametrize("far", [False, True])
def test_a_path_that_is_not_there_is_told_before_a_job_is_made(call, service, job, tmp_path, monkeypatch, options, far):
    monkeypatch.setattr("steep.cli.service.sending.is_here", lambda server: not far)
    (tmp_path / "one.jsonl").unlink()
    code, _, err = call("jobs", "submit", job, *options)
    assert code == 2
    assert f"corpus.sources.1: {tmp_path / 'one.jsonl'}" in err
    assert "--no-upload" in err
    assert (service.jobs, service.files) == ([], {})


def test_a_path_of_the_server_is_not_looked_for_here(call, elsewhere, job, tmp_path):
    (tmp_path / "one.jsonl").unlink()
    assert call("jobs", "submit", job, "--no-upload")[0] == 0


@pytest.mark.parametrize("what", ["--text", "--task"])
def test_a_checkpoint_is_measured_on_what_is_there(call, service, tmp_path, what):
    code, _, err = call("checkpoints", "evaluate", "job-0", "12", what, tmp_path / "nope.yaml")
    assert code == 2
    assert f"{what} {tmp_path / 'nope.yaml'}: there is no such file or directory" in err
    assert not [one for one in service.seen if one.method == "POST"]


def test_a_server_is_here_or_not():
    assert is_here("http://localhost:8470")
    assert is_here("http://[::1]:8470")
    assert not is_here("https://steep.example.org")


# ---------------------------------------------------------------------------------------------------------- job files


def test_the_example_is_the_job_of_the_demo(repository, tmp_path, monkeypatch):
    monkeypatch.setattr("steep.cli.pythontext.gather", lambda out: 0)
    monkeypatch.setenv("STEEP_CACHE", str(tmp_path / "cache"))
    base = repository / "src" / "steep" / "data" / "tiny-base"
    demo = load_spec(make_job(tmp_path / "demo", str(base)))
    example = read_job(repository / "examples" / "python-docs.yaml")
    assert Path(example.base.model) == base
    assert example.service.limits.time == 7200

    def plain(spec):
        values = spec.model_dump(exclude={"service", "base"})
        for source in values["corpus"]["sources"]:
            source["path"] = Path(source["path"]).name
        return values

    assert plain(example) == plain(demo)
    assert all(source.path.startswith(str(tmp_path / "cache")) for source in example.corpus.sources)


def test_python_has_no_other_text(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(SMALL | {"corpus": {"sources": ["python://jokes"]}}))
    with pytest.raises(InvalidCorpus, match="no such text") as error:
        read_job(job)
    assert "reference" in error.value.cure


def test_what_is_given_beside_the_file_is_checked_like_the_file(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(SMALL | {"service": {"priority": 3, "project": "physics"}}))
    spec = read_job(job, top={"name": "other"}, service={"priority": 7})
    assert (spec.name, spec.service.priority, spec.service.project) == ("other", 7, "physics")
    with pytest.raises(InvalidSpec, match=r"service\.priority"):
        read_job(job, service={"priority": 700})
    assert jobfile.KINDS == ("reference", "docstrings", "sources")


def test_a_run_directory_is_not_taken_for_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_job("job-7f3k2m9q4t8w")
    assert not is_job("runs/job-7f3k2m9q4t8w")
    assert not is_job("python-docs")
    (tmp_path / "job-7f3k2m9q4t8w").mkdir()
    assert not is_job("job-7f3k2m9q4t8w")


# -------------------------------------------------------------------------------------------------------------- doctor


def found(findings):
    return {one.about: one for one in findings}


def test_packages_of_other_versions_are_named(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("rich==0.0.1\npydantic==0.0.2\n# a comment\nnot-installed-here==1.0\n")
    (one,) = checks._packages(pins)
    assert one.level == "warning"
    assert "2 of 3" in one.text
    assert "rich" in one.text
    (one,) = checks._packages(tmp_path / "none.txt")
    assert one.level == "ok"


def test_a_package_that_is_missing_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "_required", lambda: ["rich", "no-such-package"])
    (one,) = checks._packages(tmp_path / "none.txt")
    assert one.level == "problem"
    assert "no-such-package" in one.text


def test_the_build_of_torch_is_read_from_its_files(tmp_path):
    version = tmp_path / "version.py"
    version.write_text("__version__ = '2.11.0+cu128'\ncuda: Optional[str] = '12.8'\nhip = None\n")
    assert checks._cuda_of(version) == "12.8"
    version.write_text("cuda: Optional[str] = None\n")
    assert checks._cuda_of(version) is None


def test_a_data_directory_that_others_may_read_is_a_warning(tmp_path):
    data = tmp_path / "data"
    assert checks._data_directory(data).level == "ok"
    data.mkdir(mode=0o755)
    (data / "secrets.key").write_text("x")
    (data / "secrets.key").chmod(0o644)
    one = checks._data_directory(data)
    assert one.level == "warning"
    assert f"chmod 600 {data / 'secrets.key'}" in one.cure
    data.chmod(0o700)
    (data / "secrets.key").chmod(0o600)
    assert checks._data_directory(data).level == "ok"
    (tmp_path / "file").write_text("")
    assert checks._data_directory(tmp_path / "file").level == "problem"


def test_little_room_on_the_disk(tmp_path, monkeypatch):
    for free, level in ((10**9, "problem"), (10**10, "warning"), (10**12, "ok")):
        monkeypatch.setattr("steep.artifacts.space.free_bytes", lambda path, free=free: free)
        assert checks._disk(tmp_path).level == level


def test_how_large_a_checkpoint_is_stands_as_in_the_guide(repository, tmp_path, monkeypatch):
    monkeypatch.setattr("steep.artifacts.space.free_bytes", lambda path: 10**9)
    guide = (repository / "docs" / "how-to" / "plan.md").read_text(encoding="utf-8")
    told = re.search(r"takes \d+ bytes a parameter that is trained", checks._disk(tmp_path).cure)
    assert told is not None
    assert told[0] in guide


@pytest.mark.parametrize(("skew", "level"), [(0.4, "ok"), (-100.0, "warning"), (40.0, "warning"), (None, "ok")])
def test_clocks_that_differ(skew, level):
    assert checks._clock(skew).level == level


def test_a_server_that_is_not_there_is_a_problem_and_none_at_all_is_not(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("STEEP_SERVER", "STEEP_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert found(checks._server())["server"].level == "ok"
    write_config(config_file(), Settings("http://127.0.0.1:9", "key"))
    config_file().chmod(0o644)
    lines = found(checks._server())
    assert lines["key"].level == "warning"
    assert lines["server"].level == "problem"
    assert "steep up" in lines["server"].cure


@pytest.mark.parametrize(
    "command",
    [
        ("jobs", "list"),
        ("jobs", "watch", "job-0"),
        ("jobs", "events", "--follow"),
        ("login", "http://127.0.0.1:9"),
    ],
)
def test_a_server_of_this_machine_that_is_not_there_is_told_of_at_once(call, monkeypatch, command):
    monkeypatch.setenv("STEEP_SERVER", "http://127.0.0.1:9")
    monkeypatch.setenv("STEEP_KEY", "key")
    monkeypatch.setattr("steep.client.wire.Wire.send", lambda *given, **more: pytest.fail("it was asked"))
    code, _, err = call(*command)
    assert code == 1
    assert "http://127.0.0.1:9: the server cannot be reached ([Errno 111] Connection refused)" in err
    assert "steep up" in err


@pytest.mark.parametrize("command", [("checkpoints", "list"), ("status",), ("watch",)])
def test_a_name_that_the_server_could_not_be_asked_for(call, monkeypatch, tmp_path, command):
    monkeypatch.setenv("STEEP_SERVER", "http://127.0.0.1:9")
    monkeypatch.setenv("STEEP_KEY", "key")
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*command, "handbook")
    assert code == 2
    assert "handbook: is not a run directory, and http://127.0.0.1:9 could not be asked for a job of that name" in err


def test_text_is_gathered_only_for_a_server_that_is_there(call, monkeypatch, tmp_path):
    def gather():
        raise AssertionError("gathered for nobody")

    monkeypatch.setattr(jobfile, "_gathered", gather)
    monkeypatch.setattr("steep.cli.service.connect.PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("STEEP_SERVER", "STEEP_KEY"):
        monkeypatch.delenv(name, raising=False)
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(SMALL | {"corpus": {"sources": ["python://reference"]}}))
    code, _, err = call("jobs", "submit", job)
    assert code == 2
    assert "Error: no server is known here" in err
    write_config(config_file(), Settings("http://127.0.0.1:9", "key"))
    code, _, again = call("jobs", "submit", job)
    assert code == 1
    assert "the server cannot be reached" in again
    assert err.splitlines()[-1] == again.splitlines()[-1]  # the same cure


def test_a_problem_is_exit_code_1(call, monkeypatch, tmp_path):
    one = checks.Finding("disk", "problem", "no room", "Free some.")
    monkeypatch.setattr(checks, "findings", lambda data: iter([one]))
    code, out, _ = call("doctor", "--data", tmp_path)
    assert code == 1
    assert "Free some." in out
    monkeypatch.setattr(checks, "findings", lambda data: iter([checks.Finding("disk", "warning", "little room", "")]))
    assert call("doctor", "--data", tmp_path)[0] == 0
