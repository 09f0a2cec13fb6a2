"""The client of an S3-compatible bucket, set up in one place for checkpoints and for corpora.

Credentials, region and endpoint come from the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
`AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`).
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any


def s3_client(bucket: str, *, prefix: str = "", answer_seconds: float, max_retries: int, retry_seconds: float) -> Any:
    """An `obstore` client of a bucket; nothing is asked of the server yet.

    Args:
        bucket: its name.
        prefix: of all keys.
        answer_seconds: how long one request may take.
        max_retries: how often a request that failed is made again.
        retry_seconds: how long all attempts of a request may take together.
    """
    from obstore.store import S3Store

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={"endpoint": endpoint} if endpoint else None,
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=answer_seconds)},
        retry_config={"max_retries": max_retries, "retry_timeout": timedelta(seconds=retry_seconds)},
    )
