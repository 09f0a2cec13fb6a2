"""The environment that a worker begins with, and which part of it a warm process can still take up after its imports."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from steep.artifacts.redaction import is_secret_name
from steep.compute.contract import Order
from steep.compute.local.processes import MARK

ENGINE_SETTINGS = frozenset({"STEEP_CACHE", "STEEP_OBSERVERS"})
"""Variables of the engine, which a worker takes over from the server. The other STEEP_ variables are the server's own."""

_FOR_ENGINE = ("AWS_", "HF_", "HUGGING_FACE_", "MLFLOW_", "TOKENIZERS_", "WANDB_")
"""Beginnings of names that the engine or a library of it reads, keys and tokens too: the operator lends those to all jobs."""

_SERVERS = ("STEEP_", "PG", "OTEL_")
"""Beginnings of names that are the server's own: what it tells its database and its collector is nothing to a worker."""

_STORE = "AWS_"
_PASSWORD_IN_URL = re.compile(r"://[^\s/@]*:[^\s/@]+@")

THREADS = "OMP_NUM_THREADS"
VISIBLE = "CUDA_VISIBLE_DEVICES"

_LATE = frozenset({VISIBLE, "HF_TOKEN", "PWD", "OLDPWD", "SHLVL", "_"})
_LATE_PREFIXES = ("STEEP_", "AWS_", "WANDB_", "MLFLOW_")


def lent_environment() -> dict[str, str]:
    """The server's variables but for its own settings and for secrets that the engine has no use for."""
    return {name: value for name, value in os.environ.items() if _is_lent(name, value)}


def _is_lent(name: str, value: str) -> bool:
    if name in ENGINE_SETTINGS or name.startswith(_FOR_ENGINE):
        return True
    if name.startswith(_SERVERS) or is_secret_name(name):
        return False
    return name.lower().endswith("_proxy") or _PASSWORD_IN_URL.search(value) is None


def environment_base(threads: int) -> dict[str, str]:
    """What all workers of this machine have in common.

    Args:
        threads: of the libraries that compute; the operator's own setting goes before it.
    """
    base = lent_environment()
    base.setdefault(THREADS, str(threads))
    # torch asks the driver's management library whether there is a GPU, not the driver: after that a fork may use it
    base.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    base["PYTHONUNBUFFERED"] = "1"  # the last words of a worker that is killed are the most wanted ones
    return base


def environment_of(order: Order, handle: str, threads: int, gpus: tuple[str, ...]) -> dict[str, str]:
    """All variables of the worker of an order.

    Args:
        order: what was asked for; its own variables go before all others.
        handle: becomes the worker's mark.
        threads: as above.
        gpus: ids of the GPUs that it sees; none hides them all.
    """
    lent = {**environment_base(threads), VISIBLE: ",".join(gpus)}
    return {**with_own(lent, order.environment), MARK: handle}


def with_own(base: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Variables of a job put before those that all jobs are lent.

    Keys of a store are taken from the one or from the other, and never from both: a key of the operator's opens nothing at an
    address that a project chose.
    """
    if any(name.startswith(_STORE) for name in own):
        base = {name: value for name, value in base.items() if not name.startswith(_STORE)}
    return {**base, **own}


def too_late_for(base: Mapping[str, str], wanted: Mapping[str, str]) -> str | None:
    """Name of a variable that differs and may have been read while libraries were imported; None when there is none.

    Only variables that are known to be read when they are used count as late ones: all others may matter.

    Args:
        base: variables at the imports.
        wanted: those that the worker is to have.
    """
    for name in sorted(base.keys() | wanted.keys()):
        if base.get(name) != wanted.get(name) and name not in _LATE and not name.startswith(_LATE_PREFIXES):
            return name
    return None
