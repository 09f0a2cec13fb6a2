"""Examples in the OpenAPI document."""

from __future__ import annotations

from typing import Any

JOB: dict[str, Any] = {
    "spec": {
        "name": "handbook",
        "tags": ["docs"],
        "base": "HuggingFaceTB/SmolLM2-135M",
        "corpus": {"sources": ["steep://files/file-7f3k2m9q4t8w"], "holdout": 0.02},
        "training": {"budget": "2 epochs"},
        "service": {"gpu": "H100", "gpu_count": 1, "limits": {"cost": 20.0}, "priority": 0},
    }
}
