"""Checkpoints on disk: a checkpoint exists when its manifest does.

    RUN/checkpoints/
      step-00000100/              committed: data files and `manifest.json`
      step-00000100.pin           its presence pins the checkpoint; it lies beside, so it survives a new save of the step
      step-00000100.branches      what descends from it, one a line: the path of a branch, or `abandoned-N`
      .staging-step-00000200/     being written; left over after a crash
      .replaced-step-00000100/    a committed one, set aside while the same step is committed anew
      .deleted-step-00000100/     being deleted

To commit: write and sync every data file in the staging directory, write the manifest with sizes and hashes last, sync
the directory, rename it, sync its parent. Whatever moment the machine dies, a reader finds the old or the new.

What the manifest says, see `manifest.py`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steep.artifacts.files import (
    full_disk_stops,
    hash_file,
    make_directory,
    sync_directory,
    unshared_bytes,
    write_atomic,
)
from steep.artifacts.manifest import (
    MANIFEST,
    CheckpointManifest,
    FileRecord,
    Parent,
    dump_manifest,
    parse_manifest,
    parse_step,
    step_name,
    verify_file,
)
from steep.spec.errors import DamagedArtifact, InvalidInput


class CheckpointCatalog:
    """The checkpoints of one run. Only the process that holds the run's lock may write; anybody may read.

    Args:
        directory: where they lie.
        may_write: asked before anything is committed, changed or deleted; raises Fenced when a later attempt works here.

    Attributes:
        damaged: steps whose bytes this catalog has seen to be wrong, and which were not committed anew since.
    """

    def __init__(self, directory: Path, may_write: Callable[[], None] = lambda: None) -> None:
        self.directory = directory
        self.may_write = may_write
        self.damaged: set[int] = set()

    # ---- reading

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies, or would lie."""
        return self.directory / step_name(step)

    def steps(self) -> list[int]:
        """Steps with a checkpoint directory, in order; damaged ones too."""
        if not self.directory.is_dir():
            return []
        found = [entry.name for entry in self.directory.glob("step-*") if entry.is_dir()]
        return sorted(step for name in found if (step := parse_step(name)) is not None)

    def sound_steps(self) -> list[int]:
        """Steps with a checkpoint directory of which no damage is known, in order."""
        return [step for step in self.steps() if step not in self.damaged]

    def list(self) -> list[CheckpointManifest]:
        """The manifests that can be read, by step. Data files are not looked at; see `verify`."""
        manifests = []
        for step in self.steps():
            try:
                manifests.append(self._read(step))
            except DamagedArtifact:
                continue
        return manifests

    def get(self, step: int) -> CheckpointManifest:
        """The manifest of a step.

        Raises:
            InvalidInput: there is no such checkpoint; says which there are.
            DamagedArtifact: its manifest is damaged.
        """
        if not self.path(step).is_dir():
            steps = ", ".join(map(str, self.steps())) or "none"
            raise InvalidInput(
                f"there is no checkpoint of step {step}", where=str(self.directory), cure=f"There are: {steps}."
            )
        return self._read(step)

    def verify(self, step: int) -> CheckpointManifest:
        """Read every byte of a checkpoint and compare with its manifest.

        Raises:
            DamagedArtifact: names the file that is missing, too short, or whose hash differs.
        """
        manifest = self.get(step)
        for name, record in manifest.files.items():
            verify_file(self.path(step) / name, record)
        return manifest

    def newest_valid(
        self,
        on_rejected: Callable[[int, str], None] = lambda step, why: None,
        accept: Callable[[CheckpointManifest], str | None] = lambda manifest: None,
    ) -> CheckpointManifest | None:
        """The newest checkpoint whose every byte is right.

        Args:
            on_rejected: told the step and the reason for each newer one that was passed over.
            accept: says why a checkpoint is foreign (of another spec, dataset or model), or nothing when it is ours.
        """
        for step in reversed(self.steps()):
            try:
                why = accept(self._read(step))
                if why is None:
                    return self.verify(step)
            except DamagedArtifact as error:
                self.damaged.add(step)
                why = str(error)
            on_rejected(step, why)
        return None

    def _read(self, step: int) -> CheckpointManifest:
        file = self.path(step) / MANIFEST
        try:
            manifest = parse_manifest(file.read_bytes(), str(file))
        except OSError as error:
            raise DamagedArtifact(
                f"the manifest cannot be read: {error.strerror}", where=str(file), cure="Use another checkpoint."
            ) from error
        if manifest.step != step:
            raise DamagedArtifact(
                f"the manifest is that of step {manifest.step}", where=str(file), cure="Use another checkpoint."
            )
        return manifest

    # ---- writing

    def stage(self, step: int) -> Path:
        """An empty directory to write the files of a checkpoint into."""
        self.may_write()
        staging = self._hidden("staging", step)
        with full_disk_stops(staging):
            shutil.rmtree(staging, ignore_errors=True)
            make_directory(staging)
        return staging

    def commit(
        self,
        step: int,
        *,
        tokens_seen: int,
        cursor: int,
        spec_fingerprint: str,
        order_fingerprint: str,
        model_fingerprint: str,
        parent: Parent | None = None,
        metrics: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> CheckpointManifest:
        """Make what was staged for `step` a checkpoint.

        Args:
            digests: blake3 of files that were hashed while they were written and synced already; the others are synced
                and read back for their hash.
        """
        staging = self._hidden("staging", step)
        with full_disk_stops(staging):
            manifest = CheckpointManifest(
                step=step,
                tokens_seen=tokens_seen,
                cursor=cursor,
                created_at=time.time(),
                spec_fingerprint=spec_fingerprint,
                order_fingerprint=order_fingerprint,
                model_fingerprint=model_fingerprint,
                parent=parent,
                files=_seal(staging, digests or {}),
                metrics=dict(metrics or {}),
                facts=dict(facts or {}),
            )
            self.publish(manifest, staging)
        return manifest

    def publish(self, manifest: CheckpointManifest, staging: Path) -> None:
        """Write the manifest into a directory whose data files are complete and synced, and give it its name.

        Raises:
            Fenced: a later attempt works on the run; nothing appeared.
        """
        write_atomic(staging / MANIFEST, dump_manifest(manifest))
        self.may_write()
        final, replaced = self.path(manifest.step), self._hidden("replaced", manifest.step)
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        staging.rename(final)
        self.damaged.discard(manifest.step)
        sync_directory(self.directory)
        shutil.rmtree(replaced, ignore_errors=True)

    def record_metrics(self, step: int, metrics: Mapping[str, float]) -> CheckpointManifest:
        """Add measured numbers to a committed checkpoint."""
        manifest = self.get(step)
        self.may_write()
        changed = manifest.model_copy(update={"metrics": manifest.metrics | dict(metrics)})
        write_atomic(self.path(step) / MANIFEST, dump_manifest(changed))
        return changed

    def delete(self, step: int) -> int:
        """Delete a checkpoint. Returns the bytes freed; files that a branch shares are not freed.

        Raises:
            InvalidInput: there is none, it is pinned, or a branch descends from it.
            Fenced: a later attempt works on the run.
        """
        freed = self.condemn(step)
        self.bury(step)
        return freed

    def condemn(self, step: int) -> int:
        """Begin to delete a checkpoint: it is gone, and `bury` frees its bytes. What stands between the two is found again
        after a crash, see `condemned_steps`. Returns the bytes that will be freed. One that is condemned already is so.

        Raises:
            InvalidInput: there is none, it is pinned, or a branch descends from it.
            Fenced: a later attempt works on the run.
        """
        self.may_write()
        condemned = self._hidden("deleted", step)
        if step not in self.steps():
            if condemned.is_dir():
                return unshared_bytes(condemned)
            self.get(step)
        if self.pinned(step):
            raise InvalidInput(
                f"checkpoint {step} is pinned",
                where=str(self.path(step)),
                cure="Unpin it with `steep checkpoints unpin`.",
            )
        if branches := self.branches(step):
            what = f"{', '.join(branches)} descends from checkpoint {step}"
            raise InvalidInput(what, where=str(self.path(step)), cure="Delete that directory first.")
        shutil.rmtree(condemned, ignore_errors=True)
        self.path(step).rename(condemned)
        sync_directory(self.directory)
        return unshared_bytes(condemned)

    def condemned_steps(self) -> Sequence[int]:
        """Those whose deletion was begun, and not brought to its end."""
        names = (path.name.removeprefix(".deleted-") for path in self.directory.glob(".deleted-step-*"))
        return sorted(step for step in map(parse_step, names) if step is not None)

    def bury(self, step: int) -> None:
        """Free the bytes of a condemned checkpoint, if they are there."""
        if step in self.condemned_steps():
            shutil.rmtree(self._hidden("deleted", step))

    def clean(self) -> int:
        """Clear away what a crash left half-done. Returns the bytes freed. Call it with the run's lock held."""
        self.may_write()
        freed = 0
        for entry in sorted(self.directory.glob(".*-step-*")):
            final = self.directory / entry.name.partition("-")[2]
            if entry.name.startswith(".replaced-") and not final.exists():
                entry.rename(final)
                sync_directory(self.directory)
            elif entry.is_dir():
                freed += unshared_bytes(entry)
                shutil.rmtree(entry)
        return freed

    def _hidden(self, what: str, step: int) -> Path:
        return self.directory / f".{what}-{step_name(step)}"

    # ---- what protects a checkpoint

    def _beside(self, step: int, suffix: str) -> Path:
        return self.directory / f"{step_name(step)}.{suffix}"

    def pin(self, step: int) -> None:
        """Protect a checkpoint from deletion."""
        self.get(step)
        write_atomic(self._beside(step, "pin"), "")

    def unpin(self, step: int) -> None:
        """Take the protection away."""
        self.get(step)
        self._beside(step, "pin").unlink(missing_ok=True)

    def pinned(self, step: int) -> bool:
        """Whether it is pinned."""
        return self._beside(step, "pin").exists()

    def branches(self, step: int) -> tuple[str, ...]:
        """What descends from it and still exists: paths of branches, and names of lines that were rolled back to it."""
        file = self._beside(step, "branches")
        names = file.read_text().splitlines() if file.exists() else []
        return tuple(name for name in names if (self.directory / name).exists())

    def record_branch(self, step: int, descendant: Path) -> None:
        """Note that a run, or an abandoned line by its name, descends from a checkpoint."""
        names = dict.fromkeys([*self.branches(step), str(descendant)])
        write_atomic(self._beside(step, "branches"), "\n".join(names) + "\n")


def _seal(staging: Path, digests: Mapping[str, str]) -> dict[str, FileRecord]:
    """Records of all files in a staging directory, each on the disk for good."""
    records = {}
    for path in sorted(staging.iterdir()):
        if (digest := digests.get(path.name)) is None:
            with open(path, "rb") as stream:
                os.fsync(stream.fileno())
            digest = hash_file(path)
        records[path.name] = FileRecord(size_bytes=path.stat().st_size, blake3=digest)
    return records
