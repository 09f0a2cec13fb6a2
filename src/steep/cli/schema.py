"""The JSON schema of job files, as published for editors and as the reference is made from."""

from __future__ import annotations

from typing import Any

from steep.spec.job import JobSpec

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def job_schema() -> dict[str, Any]:
    """What a job file may hold. `$schema` is allowed at its top, so that a file can name its own schema."""
    return {"$schema": SCHEMA_DIALECT, **JobSpec.model_json_schema(mode="validation"), "title": "Steep job"}
