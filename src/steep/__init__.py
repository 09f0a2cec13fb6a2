"""Steep: continued pretraining of language models as a managed job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steep.client.client import AsyncClient, Client
    from steep.client.signatures import verify_signature

__all__ = ["AsyncClient", "Client", "__version__", "verify_signature"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The client is imported when it is first asked for, so that `import steep` costs nothing."""
    if name == "verify_signature":
        from steep.client import signatures

        return signatures.verify_signature
    if name in ("AsyncClient", "Client"):
        from steep.client import client

        return getattr(client, name)
    raise AttributeError(f"module 'steep' has no attribute {name!r}")
