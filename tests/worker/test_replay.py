"""Text of the base's own is sampled once and kept, however much of it is wanted, and written together where that costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from steep.model.load import load_model
from steep.server.admission import PACKAGED
from steep.spec.errors import Stopped
from steep.worker import replay
from steep.worker.replay import SelfSampler

Make = Callable[..., SelfSampler]
BASE = str(PACKAGED / "tiny-base")
PART = 60


@pytest.fixture
def told() -> list[tuple[float, float | None]]:
    """What was said of the progress."""
    return []


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: list[tuple[float, float | None]]) -> Make:
    monkeypatch.setenv("STEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(replay, "PART_TOKENS", PART)
    monkeypatch.setattr("steep.model.generate.MAX_DOCUMENT_TOKENS", 24)
    torch.set_num_threads(1)
    model = load_model(BASE)

    def make(at_once: int, should_stop: Callable[[], str | None] = lambda: None) -> SelfSampler:
        monkeypatch.setattr(replay, "PARTS_AT_ONCE", {"cpu": at_once})
        return SelfSampler(
            model, BASE, f"base-{at_once}", lambda what, done, total: told.append((done, total)), should_stop
        )

    return make


def files(tmp_path: Path, at_once: int) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in sorted((tmp_path / "cache" / "self" / f"base-{at_once}").iterdir())
    }


@pytest.mark.parametrize("at_once", [1, 3])
def test_more_of_it_begins_with_what_was_there(make: Make, tmp_path: Path, at_once: int) -> None:
    first = make(at_once).sample(tmp_path / "little", PART)
    before = files(tmp_path, at_once)
    assert len(before) == {1: 2, 3: 3}[at_once]
    more = make(at_once).sample(tmp_path / "more", 4 * PART)
    after = files(tmp_path, at_once)
    assert before.items() <= after.items()
    assert len(after) == {1: 5, 3: 6}[at_once]
    assert more.holdout.info.fingerprint == first.holdout.info.fingerprint
    assert first.train is not None
    assert more.train is not None
    little = len(first.train)
    assert len(more.train) > 2 * little
    assert (more.train.read(0, little) == first.train.read(0, little)).all()


@pytest.mark.parametrize("at_once", [1, 3])
def test_its_progress_goes_on_to_the_end(make: Make, tmp_path: Path, told: Any, at_once: int) -> None:
    make(at_once).sample(tmp_path / "out", PART)
    done = [each for each, _ in told]
    assert {total for _, total in told} == {2 * PART}
    assert done == sorted(done)
    assert done[-1] == 2 * PART


def test_who_was_stopped_keeps_what_was_complete(make: Make, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "self" / "base-1"

    def stop() -> str | None:
        return "SIGTERM was received" if len(list(cache.glob("part-*"))) == 2 else None

    with pytest.raises(Stopped, match="SIGTERM"):
        make(1, stop).sample(tmp_path / "out", 3 * PART)
    assert list(files(tmp_path, 1)) == ["part-00000.json", "part-00001.json"]


def test_who_is_stopped_within_a_part_does_not_finish_it(make: Make, tmp_path: Path) -> None:
    asked = iter((None, None, "SIGTERM was received"))
    with pytest.raises(Stopped, match="SIGTERM"):
        make(1, lambda: next(asked)).sample(tmp_path / "out", PART)
    assert not (tmp_path / "cache" / "self" / "base-1" / "part-00000.json").exists()


def test_parts_that_were_written_one_by_one_stay_when_several_are_written_at_once(make: Make, tmp_path: Path) -> None:
    make(1).sample(tmp_path / "little", PART)
    before = files(tmp_path, 1)
    several = make(3)
    replace(several, weights="base-1").sample(tmp_path / "more", 3 * PART)
    after = files(tmp_path, 1)
    assert before.items() <= after.items()
    assert len(after) == 6
