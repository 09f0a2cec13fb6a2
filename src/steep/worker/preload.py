"""What workers import, imported before it is known what to work on: most of the time until the first step."""

from __future__ import annotations

import importlib
import pkgutil

ROOMS = ("spec", "artifacts", "corpus", "planning", "model", "train", "evaluate", "worker")

LIBRARIES = (
    "gigatoken",
    "safetensors.torch",
    "torch",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",  # and with it what all families have in common
)
"""Imported by functions of the engine when they are called. Not pyarrow, whose allocator begins a thread."""

_NOT = ("steep.worker.__main__", "steep.worker.observers.")  # what is run; what may not be installed


def preload() -> None:
    """Import all of it. No thread is begun, CUDA is not touched, and all that is run is the reading of a table.

    That table knows languages by their letters and takes a second to read; what it says depends on the text alone.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    for room in ROOMS:
        path = importlib.import_module(f"steep.{room}").__path__
        for module in pkgutil.walk_packages(path, f"steep.{room}."):
            if not module.name.startswith(_NOT):
                importlib.import_module(module.name)
    importlib.import_module("steep.corpus.language").language_of("a sentence in some language or other")
