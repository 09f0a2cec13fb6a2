"""Copies of committed checkpoints in a store, made in the background; an outage of the store never ends training.

    <prefix>/owner                                   what the checkpoints below belong to; put once, on condition
    <prefix>/step-00000100/<identity>/<data file>    never overwritten: another state has another identity
    <prefix>/step-00000100/manifest.json             put last; a checkpoint is in the store when it is

What could not be copied is tried again, with growing pauses, until the mirror is closed; the next run catches up. A
deletion that was not made by then is not made later: a copy too many does no harm.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.lineage import Lineage
from steep.artifacts.manifest import MANIFEST, CheckpointManifest, dump_manifest, parse_manifest, step_name, verify_file
from steep.artifacts.rundir import RunDirectory
from steep.artifacts.space import require_space
from steep.artifacts.store import Store
from steep.spec.errors import DamagedArtifact, Fenced, InvalidInput, SteepError
from steep.spec.reports import CheckpointReport

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class RemoteCheckpoints:
    """The checkpoints of one run in a store: copying there, deleting there, fetching back. Blocking.

    Args:
        prefix: the run's name, so that runs can share a store.
        owner: what the checkpoints belong to, such as the data order's fingerprint; another owner is refused.
    """

    def __init__(self, store: Store, prefix: str, owner: str) -> None:
        self.store = store
        self.prefix = prefix.strip("/")
        self.owner = owner

    def claim(self) -> None:
        """Take the prefix, or make sure that it is ours.

        Raises:
            InvalidInput: it holds checkpoints of something else.
        """
        key = f"{self.prefix}/owner"
        if not self.store.put(key, self.owner.encode(), if_absent=True) and self.store.read(key).decode() != self.owner:
            raise InvalidInput(
                "the store holds checkpoints of a job of the same name on other data",
                where=self.prefix,
                cure="Give the job another name, or use another checkpoints.store.",
            )

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint in the store, in order."""
        ends = [one.key.removeprefix(f"{self.prefix}/") for one in self.store.list(self.prefix)]
        names = [end.removesuffix(f"/{MANIFEST}") for end in ends if end.endswith(f"/{MANIFEST}")]
        return sorted(int(name.removeprefix("step-")) for name in names if name.removeprefix("step-").isdecimal())

    def manifest(self, step: int) -> CheckpointManifest:
        """The manifest of a step. Raises DamagedArtifact when there is none or it is damaged."""
        key = self._manifest_key(step)
        manifest = parse_manifest(self.store.read(key), key)
        if manifest.step != step:
            raise DamagedArtifact(
                f"the manifest is that of step {manifest.step}", where=key, cure="Use another checkpoint."
            )
        return manifest

    def upload(self, catalog: CheckpointCatalog, step: int) -> CheckpointManifest | None:
        """Copy a committed checkpoint, manifest last. Returns its manifest, or nothing when all of it was there.

        Raises:
            InvalidInput: there is no such checkpoint here.
            DamagedArtifact: a byte of it is wrong here; only bytes that are right are copied.
            StoreUnavailable: the store failed.
            Fenced: a later attempt works on the run.
        """
        manifest = catalog.get(step)
        key, text = self._manifest_key(step), dump_manifest(manifest).encode()
        if self.store.exists(key) and self.store.read(key) == text:
            return None
        data = self._data_prefix(manifest)
        present = {one.key: one.size_bytes for one in self.store.list(data)}
        for name, record in manifest.files.items():
            if present.get(f"{data}/{name}") != record.size_bytes:
                verify_file(catalog.path(step) / name, record)
                self.store.put(f"{data}/{name}", catalog.path(step) / name)
        if catalog.get(step).identity != manifest.identity:  # saved anew meanwhile: the files may be of both
            return self.upload(catalog, step)
        catalog.may_write()
        self.store.put(key, text)
        for one in self.store.list(f"{self.prefix}/{step_name(step)}"):
            if one.key != key and not one.key.startswith(f"{data}/"):
                self.store.delete(one.key)
        return manifest

    def delete(self, step: int) -> None:
        """Delete a checkpoint, manifest first."""
        self.store.delete(self._manifest_key(step))
        for one in self.store.list(f"{self.prefix}/{step_name(step)}"):
            self.store.delete(one.key)

    def fetch(self, catalog: CheckpointCatalog, step: int) -> CheckpointManifest:
        """Copy a checkpoint back, verified, and commit it here.

        Raises:
            DamagedArtifact: it is not there, or a byte is wrong.
            OutOfSpace: it does not fit.
            StoreUnavailable: the store failed.
        """
        manifest = self.manifest(step)
        require_space(catalog.directory, manifest.size_bytes, f"checkpoint {step} from the store")
        staging = catalog.stage(step)
        try:
            for name, record in manifest.files.items():
                self.store.get(f"{self._data_prefix(manifest)}/{name}", staging / name)
                verify_file(staging / name, record)
            catalog.publish(manifest, staging)
        except SteepError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return manifest

    def fetch_newest(
        self,
        catalog: CheckpointCatalog,
        on_rejected: Callable[[int, str], None] = lambda step, why: None,
        accept: Callable[[CheckpointManifest], str | None] = lambda manifest: None,
    ) -> CheckpointManifest | None:
        """Copy the newest checkpoint back whose bytes are right. Returns nothing when there is none.

        Args:
            catalog: where to.
            on_rejected: told the step and the reason for each newer one that was passed over.
            accept: says why a checkpoint is foreign, or nothing when it is ours; a foreign one is not copied.

        Raises:
            OutOfSpace: it does not fit.
            StoreUnavailable: the store failed.
        """
        for step in reversed(self.steps()):
            try:
                why = accept(self.manifest(step))
                if why is None:
                    return self.fetch(catalog, step)
            except DamagedArtifact as error:
                why = str(error)
            on_rejected(step, why)
        return None

    def _manifest_key(self, step: int) -> str:
        return f"{self.prefix}/{step_name(step)}/{MANIFEST}"

    def _data_prefix(self, manifest: CheckpointManifest) -> str:
        return f"{self.prefix}/{step_name(manifest.step)}/{manifest.identity}"


@dataclass(frozen=True, slots=True)
class _Task:
    action: Literal["copy", "delete", "tidy"]
    step: int = 0


class Mirror:
    """Copies checkpoints to a store in a thread of its own. Nothing that a store does is raised here.

    Args:
        catalog: the run's checkpoints.
        remote: where they go.
        first_pause_seconds: how long to wait before the second attempt; doubled for each one after, to a minute.
    """

    def __init__(
        self, catalog: CheckpointCatalog, remote: RemoteCheckpoints, *, first_pause_seconds: float = FIRST_PAUSE_SECONDS
    ) -> None:
        self._catalog = catalog
        self._remote = remote
        self._first_pause_seconds = first_pause_seconds
        self._tasks: queue.Queue[_Task | None] = queue.Queue()
        self._reports: queue.Queue[CheckpointReport] = queue.Queue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pending: Counter[_Task] = Counter()
        # not to be waited for at exit: `close` says how long, and the next run catches up
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def copy(self, step: int) -> None:
        """Have a committed checkpoint copied, or its manifest when only that changed."""
        self._add(_Task("copy", step))

    def delete(self, step: int) -> None:
        """Have a checkpoint deleted from the store."""
        self._add(_Task("delete", step))

    def catch_up(self) -> None:
        """Have everything copied that the store does not hold yet, and deleted there what was set aside here.

        Else a new machine would go on from a checkpoint that a rollback went back from.
        """
        for step in self._catalog.steps():
            self.copy(step)
        if Lineage.read(self._run).abandoned:
            self._add(_Task("tidy"))

    def poll(self) -> list[CheckpointReport]:
        """What happened since it was last asked for: `uploaded`, and `upload_failed` at the first failure of each."""
        reports = []
        while not self._reports.empty():
            reports.append(self._reports.get_nowait())
        return reports

    def close(self, timeout_seconds: float = 60.0) -> list[int]:
        """Stop, after waiting a while for what is still to be copied. Returns the steps that were not."""
        self._tasks.put(None)
        self._thread.join(timeout_seconds)
        self._stop.set()
        self._thread.join(1.0)
        with self._lock:
            return sorted(task.step for task, times in self._pending.items() if task.action == "copy" and times)

    def _add(self, task: _Task) -> None:
        with self._lock:
            self._pending[task] += 1
        self._tasks.put(task)

    def _work(self) -> None:
        claimed = False
        while (task := self._tasks.get()) is not None and not self._stop.is_set():
            pause, failures = self._first_pause_seconds, 0
            while not self._stop.is_set():
                try:
                    if not claimed:
                        self._remote.claim()
                        claimed = True
                    self._do(task)
                    break
                except Fenced:  # the store is the later attempt's now
                    return
                except (InvalidInput, DamagedArtifact) as error:  # trying again cannot help
                    self._say(task, "upload_failed", f"{error} {error.cure}")
                    break
                except Exception as error:  # noqa: BLE001 - whatever a store does, training goes on
                    if failures == 0:
                        self._say(task, "upload_failed", f"{error}; will be tried again")
                    failures += 1
                    self._stop.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                return
            with self._lock:
                self._pending[task] -= 1

    def _do(self, task: _Task) -> None:
        self._catalog.may_write()
        if task.action == "delete":
            self._remote.delete(task.step)
        elif task.action == "tidy":
            self._tidy()
        elif task.step in self._catalog.steps():
            try:
                copied = self._remote.upload(self._catalog, task.step)
            except SteepError:
                if task.step in self._catalog.steps():
                    raise
                return  # retention deleted it meanwhile
            if copied is not None:
                self._say(task, "uploaded", "", copied.size_bytes)

    def _tidy(self) -> None:
        """Delete copies of what was set aside. One that was saved since may be the last of its kind, and stays."""
        lineage, here = Lineage.read(self._run), set(self._catalog.steps())
        for step in sorted(set(lineage.set_aside_at()).intersection(self._remote.steps()) - here):
            with suppress(DamagedArtifact):
                if lineage.sets_aside(self._remote.manifest(step)):
                    self._remote.delete(step)

    @property
    def _run(self) -> RunDirectory:
        return RunDirectory(self._catalog.directory.parent)

    def _say(self, task: _Task, event: Literal["uploaded", "upload_failed"], detail: str, size_bytes: int = 0) -> None:
        self._reports.put(CheckpointReport(step=task.step, event=event, detail=detail, size_bytes=size_bytes))
