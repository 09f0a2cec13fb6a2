"""The catalog: what is a checkpoint, what is not, what may be deleted, and what a full disk does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crash_driver import FIELDS, save

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.manifest import CheckpointManifest, FileRecord, dump_manifest, parse_manifest, step_name
from steep.artifacts.space import free_bytes
from steep.spec.errors import DamagedArtifact, InvalidInput, OutOfSpace


def test_an_empty_run_has_no_checkpoints(tmp_path: Path) -> None:
    empty = CheckpointCatalog(tmp_path / "nowhere")
    assert (empty.list(), empty.steps(), empty.newest_valid(), empty.clean()) == ([], [], None, 0)
    with pytest.raises(InvalidInput, match="no checkpoint of step 4"):
        empty.get(4)


def test_a_manifest_says_what_was_committed(catalog: CheckpointCatalog) -> None:
    assert [one.step for one in catalog.list()] == [1, 2, 3]
    manifest = catalog.get(2)
    assert (manifest.tokens_seen, manifest.cursor, manifest.facts) == (20, 2, {"mark": "mark"})
    assert manifest.size_bytes == sum(
        path.stat().st_size for path in catalog.path(2).iterdir() if path.name != "manifest.json"
    )
    assert manifest.identity != catalog.get(3).identity
    changed = catalog.record_metrics(2, {"bpb": 1.5})
    assert changed.identity == manifest.identity
    assert catalog.verify(2).metrics == {"bpb": 1.5}


def test_any_flipped_bit_is_noticed(catalog: CheckpointCatalog) -> None:
    chance = random.Random(17)
    files = sorted(catalog.path(3).iterdir())
    assert len(files) == 3
    for file in files:
        original = file.read_bytes()
        for _ in range(60):
            damaged = bytearray(original)
            place = chance.randrange(len(damaged))
            damaged[place] ^= 1 << chance.randrange(8)
            file.write_bytes(damaged)
            rejected: list[tuple[int, str]] = []
            newest = catalog.newest_valid(lambda step, why, rejected=rejected: rejected.append((step, why)))
            assert newest is not None
            assert newest.step == 2, (file.name, place)
            assert rejected[0][0] == 3
            assert file.name in rejected[0][1]
        file.write_bytes(original)
    assert catalog.verify(3)


@pytest.mark.parametrize("name", ["weights", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_missing_and_short_files_are_named(catalog: CheckpointCatalog, name: str, damage: str) -> None:
    file = catalog.path(3) / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else -1])
    with pytest.raises(DamagedArtifact, match=name):
        catalog.verify(3)


def test_a_checkpoint_under_another_name_is_refused(catalog: CheckpointCatalog) -> None:
    catalog.path(3).rename(catalog.path(9))
    with pytest.raises(DamagedArtifact, match="that of step 3"):
        catalog.verify(9)


def test_foreign_checkpoints_are_passed_over_with_the_reason(catalog: CheckpointCatalog) -> None:
    rejected: list[tuple[int, str]] = []

    def accept(manifest: CheckpointManifest) -> str | None:
        return "it is of another dataset" if manifest.step == 3 else None

    newest = catalog.newest_valid(lambda *one: rejected.append(one), accept)
    assert newest is not None
    assert (newest.step, rejected) == (2, [(3, "it is of another dataset")])


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", "..", ""])
def test_a_manifest_cannot_name_files_elsewhere(catalog: CheckpointCatalog, name: str) -> None:
    crafted = catalog.get(1).model_copy(update={"files": {name: FileRecord(size_bytes=1, blake3="0")}})
    with pytest.raises(DamagedArtifact, match="not the name of a file"):
        parse_manifest(dump_manifest(crafted), "somewhere")


def test_what_is_protected_is_not_deleted(catalog: CheckpointCatalog, tmp_path: Path) -> None:
    catalog.pin(1)
    with pytest.raises(InvalidInput, match="pinned"):
        catalog.delete(1)
    save(catalog, 1, "saved again")
    assert catalog.pinned(1)
    catalog.unpin(1)
    (tmp_path / "child").mkdir()
    catalog.record_branch(2, tmp_path / "child")
    with pytest.raises(InvalidInput, match="descends"):
        catalog.delete(2)
    (tmp_path / "child").rmdir()
    sizes = [sum(path.stat().st_size for path in catalog.path(step).iterdir()) for step in (1, 2)]
    assert [catalog.delete(step) for step in (1, 2)] == sizes
    assert catalog.steps() == [3]
    with pytest.raises(InvalidInput, match="no checkpoint of step 1"):
        catalog.delete(1)


def test_a_damaged_checkpoint_can_be_deleted(catalog: CheckpointCatalog) -> None:
    (catalog.path(2) / "manifest.json").unlink()
    assert catalog.steps() == [1, 2, 3]
    assert [one.step for one in catalog.list()] == [1, 3]
    assert catalog.delete(2) > 0


def test_deleting_counts_only_bytes_that_no_branch_shares(catalog: CheckpointCatalog, tmp_path: Path) -> None:
    (tmp_path / "shared").hardlink_to(catalog.path(1) / "weights")
    expected = sum(path.stat().st_size for path in catalog.path(1).iterdir() if path.name != "weights")
    assert catalog.delete(1) == expected


def test_leftovers_are_cleaned_and_counted(catalog: CheckpointCatalog) -> None:
    (catalog.stage(4) / "weights").write_bytes(b"x" * 1000)
    assert catalog.steps() == [1, 2, 3]
    assert catalog.clean() == 1000
    assert catalog.clean() == 0
    assert not list(catalog.directory.glob(".*"))


def why_it_does_not_fit(catalog: CheckpointCatalog) -> str:
    """Save step 2; returns what the error says, or nothing."""
    try:
        (catalog.stage(2) / "weights").write_bytes(b"w" * 20_000)
        catalog.commit(2, tokens_seen=1, cursor=1, facts={"long": "f" * 6000}, **FIELDS)
    except OutOfSpace as error:
        return str(error.cure)
    except OSError as error:  # from the test's own writing of the weights
        return str(error)
    return ""


def test_a_full_disk_leaves_what_was_committed(small_disk: Path) -> None:
    catalog = CheckpointCatalog(small_disk / "checkpoints")
    save(catalog, 1, "old")
    filler = small_disk / "filler"
    room, reasons = free_bytes(small_disk), []
    for spare in range(0, 40_000, 4096):
        filler.write_bytes(b"x" * (room - spare))
        if not (why := why_it_does_not_fit(catalog)):
            break
        reasons.append(why)
        assert [catalog.verify(step).step for step in catalog.steps()] == [1]
        filler.unlink()
        catalog.clean()
    assert spare >= 20_000, "it never fitted, or too soon"
    assert all("Free some space" in why or "No space" in why for why in reasons)
    assert any("Free some space" in why for why in reasons)
    assert [catalog.verify(step).step for step in catalog.steps()] == [1, 2]


def test_only_directories_named_by_a_step_are_checkpoints(catalog: CheckpointCatalog) -> None:
    for name in ("step-4", "step-000000005", "step-0000000x", "step-\N{ARABIC-INDIC DIGIT SIX}"):
        (catalog.directory / name).mkdir()
    assert catalog.steps() == [1, 2, 3]


def test_a_file_that_cannot_be_read_is_named(catalog: CheckpointCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("steep.artifacts.manifest.hash_file", broken)  # no test can break a real disk
    with pytest.raises(DamagedArtifact, match=r"cannot be read: Input/output error"):
        catalog.verify(1)


def test_metrics_that_are_no_numbers_survive(catalog: CheckpointCatalog) -> None:
    catalog.record_metrics(1, {"gain": float("nan"), "forgetting": float("inf")})
    metrics = catalog.verify(1).metrics
    assert metrics["gain"] != metrics["gain"]
    assert metrics["forgetting"] == float("inf")


def test_names_sort_like_steps() -> None:
    assert [step_name(step) for step in (1, 100, 99_999_999)] == ["step-00000001", "step-00000100", "step-99999999"]
