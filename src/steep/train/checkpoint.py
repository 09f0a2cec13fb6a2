"""Training state to a checkpoint and back, bit for bit.

Files of a checkpoint (one of each kind for each process):

    weights-00000.safetensors     trainable weights and buffers, named as in the model; frozen ones come from the base
    optimizer-00000.safetensors   `optimizer.<weight>.<key>`, such as `optimizer.lm_head.weight.exp_avg`
    average-00000.safetensors     `average.<weight>`, when an average of the weights is kept
    rng-00000.safetensors         random number generators of torch, by device type
    training.json                 progress, and the optimizer's settings for each group of weights

Saving runs in the background: see `train/snapshot.py` for what training waits for, and what memory it costs.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steep.artifacts.checkpoints import CheckpointCatalog
from steep.artifacts.files import full_disk_stops, write_atomic
from steep.artifacts.manifest import CheckpointManifest, Parent
from steep.train.snapshot import Snapshot
from steep.train.statetensors import (
    average_targets,
    average_tensors,
    fingerprint,
    model_tensors,
    optimizer_targets,
    optimizer_tensors,
    refuse_other_model,
    rng_states,
    set_groups,
    set_rng,
    training_record,
)
from steep.train.tensorfile import Part, TensorFiles, plan_parts, write_parts

if TYPE_CHECKING:
    from steep.train.state import TrainingState

_TRAINING = "training.json"
_TIED = "tied"


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint that was committed: its record, how long training waited for it, and how long the writer took."""

    manifest: CheckpointManifest
    stall_seconds: float
    write_seconds: float


class CheckpointWriter:
    """Saves checkpoints in the background, one at a time.

    Between `save` and the next update of the weights the live tensors are read directly. An optimizer's `step` is
    noticed by itself; whoever changes weights, optimizer state or average in another way calls `freeze` before.

    Args:
        catalog: where checkpoints go.
        spec_fingerprint: of what training depends on in the spec.
        order_fingerprint: of the data order.
        parent: the checkpoint that training went on from.
    """

    def __init__(
        self,
        catalog: CheckpointCatalog,
        *,
        spec_fingerprint: str,
        order_fingerprint: str,
        parent: Parent | None = None,
    ) -> None:
        self.catalog = catalog
        self.spec_fingerprint = spec_fingerprint
        self.order_fingerprint = order_fingerprint
        self.parent = parent
        self._buffers: dict[int, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._snapshot: Snapshot | None = None
        self._hook: Any = None
        self._stall_seconds = 0.0
        self._saved: Saved | None = None
        self._failure: BaseException | None = None

    def save(
        self, state: TrainingState, *, facts: Mapping[str, Any], metrics: Mapping[str, float] | None = None
    ) -> float:
        """Begin to save. Returns the seconds that training waited until now; `Saved.stall_seconds` has all of them.

        Raises:
            OutOfSpace: the disk is full, or was when the checkpoint before was written.
        """
        started = time.perf_counter()
        self._join()
        staging = self.catalog.stage(state.progress.step)
        weights, tied = model_tensors(state.model)
        files = {
            "weights": weights,
            "optimizer": dict(optimizer_tensors(state)),
            "average": average_tensors(state),
            "rng": rng_states(state.model),
        }
        parts = {f"{kind}-00000.safetensors": plan_parts(tensors) for kind, tensors in files.items() if tensors}
        with full_disk_stops(staging):
            write_atomic(staging / _TRAINING, json.dumps(training_record(state)))
        record = {
            "step": state.progress.step,
            "tokens_seen": state.progress.tokens_seen,
            "cursor": state.progress.cursor,
            "model_fingerprint": fingerprint(weights),
            "facts": dict(facts),
            "metrics": dict(metrics or {}),
        }
        snapshot = Snapshot([part.tensor for some in parts.values() for part in some], self._buffers)
        self._snapshot = snapshot
        self._hook = state.optimizer.register_step_pre_hook(lambda *_: self.freeze())
        self._stall_seconds = time.perf_counter() - started
        work = (staging, parts, tied, snapshot, record)
        self._thread = threading.Thread(target=self._work, args=work, name="checkpoint")
        self._thread.start()
        return self._stall_seconds

    def freeze(self) -> None:
        """Let the live tensors change from now on; copies what is not yet written. Called before each update."""
        if self._snapshot is not None:
            started = time.perf_counter()
            self._snapshot.freeze()
            self._stall_seconds += time.perf_counter() - started
        self._forget()

    def _forget(self) -> None:
        """The live tensors are no longer read: nothing needs to be done before the next update."""
        self._snapshot = None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def poll(self) -> Saved | None:
        """What was committed since it was last asked for, without waiting.

        Raises:
            OutOfSpace, or whatever else went wrong in the background.
        """
        if self._thread is None or not self._thread.is_alive():
            self._join()
        saved, self._saved = self._saved, None
        return saved

    def wait(self) -> Saved | None:
        """Wait until everything is committed. Returns what was committed since it was last asked for.

        Raises:
            OutOfSpace, or whatever else went wrong in the background.
        """
        self._join()
        return self.poll()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._forget()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(
        self,
        staging: Path,
        parts: dict[str, list[Part]],
        tied: dict[str, str],
        snapshot: Snapshot,
        record: dict[str, Any],
    ) -> None:
        started = time.perf_counter()
        try:
            digests = _write_files(staging, parts, snapshot, {_TIED: json.dumps(tied)})
            manifest = self.catalog.commit(
                **record,
                spec_fingerprint=self.spec_fingerprint,
                order_fingerprint=self.order_fingerprint,
                parent=self.parent,
                digests=digests,
            )
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that trains
            self._failure = error
            shutil.rmtree(staging, ignore_errors=True)
            return
        self.parent = Parent(step=manifest.step, identity=manifest.identity)
        self._saved = Saved(manifest, self._stall_seconds, time.perf_counter() - started)


def _write_files(
    staging: Path, parts: Mapping[str, list[Part]], snapshot: Snapshot, notes: Mapping[str, str]
) -> dict[str, str]:
    """Write the tensor files of a checkpoint. Returns their hashes."""
    index = {id(part): number for number, part in enumerate(part for some in parts.values() for part in some)}
    return {
        name: write_parts(staging / name, some, lambda part, consume: snapshot.feed(index[id(part)], consume), notes)
        for name, some in parts.items()
    }


# ------------------------------------------------------------------------------------------------------------- loading


def load_checkpoint(
    catalog: CheckpointCatalog, step: int, state: TrainingState, *, verified: bool = False
) -> dict[str, Any]:
    """Fill the training state from a checkpoint, in place. Returns the manifest's facts.

    A `CheckpointWriter` at work on the same state must be waited for before.

    Args:
        verified: the hashes were checked just now, as `newest_valid` does.

    Raises:
        InvalidModel: the checkpoint is of a model with other weights.
        DamagedArtifact: a byte is wrong.
    """
    manifest = catalog.get(step) if verified else catalog.verify(step)
    files = TensorFiles(sorted(catalog.path(step).glob("*.safetensors")))
    targets, _ = model_tensors(state.model)
    refuse_other_model(targets, files, catalog.path(step))
    record = json.loads((catalog.path(step) / _TRAINING).read_bytes())
    targets |= optimizer_targets(state, files) | average_targets(state, files)
    rng = rng_states(state.model)
    targets |= {name: value for name, value in rng.items() if name in files.parts}
    with torch.no_grad():
        files.load_into(targets)
    set_groups(state, record["groups"], catalog.path(step))
    state.progress = type(state.progress)(**record["progress"])
    set_rng(state.model, rng)
    return dict(manifest.facts)


def load_weights(catalog: CheckpointCatalog, step: int, *, verified: bool = False) -> dict[str, Tensor]:
    """The weights of a checkpoint by their names in the model's `state_dict`, memory-mapped; tied ones under each name.

    Raises:
        DamagedArtifact: a byte is wrong.
    """
    if not verified:
        catalog.verify(step)
    files = TensorFiles(sorted(catalog.path(step).glob("weights-*.safetensors")))
    weights = {name: files.read(name) for name in files.parts}
    return weights | {alias: weights[name] for alias, name in json.loads(files.notes.get(_TIED, "{}")).items()}


def load_average(catalog: CheckpointCatalog, step: int) -> dict[str, Tensor] | None:
    """The averaged weights of a checkpoint, named like `load_weights`, or nothing when no average was kept.

    Raises:
        DamagedArtifact: a byte is wrong.
    """
    catalog.verify(step)
    paths = sorted(catalog.path(step).glob("average-*.safetensors"))
    if not paths:
        return None
    files = TensorFiles(paths)
    average = {name.removeprefix("average."): files.read(name) for name in files.parts}
    tied = json.loads(files.notes.get(_TIED, "{}"))
    return average | {alias: average[name] for alias, name in tied.items() if name in average}


def model_fingerprint(model: nn.Module) -> str:
    """Names, shapes and types of the weights that a checkpoint holds; a checkpoint with another one is foreign."""
    return fingerprint(model_tensors(model)[0])
