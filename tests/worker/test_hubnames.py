"""A name of the hub means one commit for the whole of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.artifacts.hubs import COMMIT, HubCache
from tests.worker.conftest import MakeContext, Recorder

from steep.artifacts.commits import read_commits
from steep.artifacts.files import hash_text
from steep.spec.errors import DamagedArtifact, InvalidModel
from steep.spec.stages import Stage
from steep.worker.hubnames import settle_commits

LATER = "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    """Two versions of a model."""
    made = tmp_path / "first", tmp_path / "second"
    for directory in made:
        directory.mkdir()
        (directory / "config.json").write_text("{}")
        (directory / "tokenizer.json").write_text(f'"{directory.name}"')
    return made


def test_what_a_name_means_stays_when_the_hub_goes_on(
    make_context: MakeContext, hub: HubCache, versions: tuple[Path, Path], heard: Recorder, tmp_path: Path
) -> None:
    hub.put("org/name", versions[0])
    first = make_context(base="org/name")
    settle_commits(first)
    before = (first.base_fingerprint, first.weights_fingerprint)
    hub.put("org/name", versions[1], LATER)
    again = make_context(base="org/name")
    settle_commits(again)
    assert (again.base, again.tokenizer) == (f"org/name@{COMMIT}", f"org/name@{COMMIT}")
    assert (again.base_fingerprint, again.weights_fingerprint) == before
    assert (again.base_directory / "tokenizer.json").read_text() == '"first"'
    assert heard.codes() == ["hub_commit"]
    other = make_context(tmp_path / "other run", base="org/name@main")
    settle_commits(other)
    assert other.base == f"org/name@{LATER}"
    assert other.weights_fingerprint not in before, "text sampled from the one is not of the other's kind"


def test_a_commit_that_the_job_names_is_what_it_always_was(
    make_context: MakeContext, hub: HubCache, versions: tuple[Path, Path]
) -> None:
    hub.put("org/name", versions[0])
    context = make_context(base=f"org/name@{COMMIT}")
    settle_commits(context)
    assert (context.base, context.base_fingerprint) == (f"org/name@{COMMIT}", hash_text(f"org/name@{COMMIT}"))


def test_a_run_that_began_before_keeps_its_fingerprint(
    make_context: MakeContext, hub: HubCache, versions: tuple[Path, Path]
) -> None:
    context = make_context(base="org/name")
    context.run.complete(Stage.PREPARE, "fingerprint", {})
    settle_commits(context)  # complete or not: nothing is asked for that is not needed
    assert context.base == "org/name"
    hub.put("org/name", versions[0])
    settle_commits(context)
    hub.put("org/name", versions[1], LATER)
    settle_commits(context)
    assert (context.base, context.base_fingerprint) == (f"org/name@{COMMIT}", hash_text("org/name"))


def test_a_tokenizer_of_the_hub_is_settled_too(
    make_context: MakeContext, hub: HubCache, versions: tuple[Path, Path]
) -> None:
    hub.put("org/name", versions[0])
    context = make_context(base={"from_scratch": {"tokenizer": "org/name"}})
    before = context.base_fingerprint
    settle_commits(context)
    assert (context.tokenizer, context.base_fingerprint) == (f"org/name@{COMMIT}", before)


def test_what_lies_on_this_machine_is_left_as_it_is(
    make_context: MakeContext, hub: HubCache, versions: tuple[Path, Path]
) -> None:
    context = make_context(base=str(versions[0]))
    before = context.base_fingerprint
    settle_commits(context)
    assert (context.base, context.base_fingerprint) == (str(versions[0]), before)
    assert not context.run.base.exists()


def test_a_name_that_the_hub_does_not_know_is_told_of_at_once(make_context: MakeContext, hub: HubCache) -> None:
    with pytest.raises(InvalidModel, match="org/name"):
        settle_commits(make_context(base="org/name"))


def test_a_damaged_record_is_named(make_context: MakeContext) -> None:
    context = make_context(base="org/name")
    context.run.base.mkdir(parents=True)
    (context.run.base / "commits.json").write_text("[]")
    with pytest.raises(DamagedArtifact, match=r"commits\.json"):
        read_commits(context.run.base)
