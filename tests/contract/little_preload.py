"""What the little worker imports, and imports that go wrong."""

from __future__ import annotations


def preload() -> None:
    import json  # noqa: F401
    import multiprocessing.pool  # noqa: F401
    import subprocess  # noqa: F401


def begin_a_thread() -> None:
    import threading

    threading.Thread(target=threading.Event().wait, daemon=True).start()


def fail() -> None:
    raise ImportError("there is no such library")
