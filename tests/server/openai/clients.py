"""Clients of OpenAI's own package."""

from __future__ import annotations

from typing import Any

from openai import OpenAI


def openai_client(address: str, key: str, **others: Any) -> OpenAI:
    """A client of a server; it asks once unless told otherwise."""
    return OpenAI(base_url=f"{address}/v1", api_key=key, **{"max_retries": 0, "timeout": 60, **others})
