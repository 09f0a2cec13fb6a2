"""The part of the API that speaks as OpenAI's does: below `/v1`, with the same keys, projects, jobs and files."""

from __future__ import annotations

from fastapi import APIRouter

from steep.server.openai import completions, files, jobs, models
from steep.server.openai.errors import BASE

UPLOAD_PATH = f"{BASE}/files"

router = APIRouter(prefix=BASE)
for _noun in (files, jobs, models, completions):
    router.include_router(_noun.router)
