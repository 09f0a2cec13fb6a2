"""Every route of the OpenAPI document with requests of all shapes: no 5xx, and no answer that the document does not know.

Requests are made of the document (schemathesis), the same ones each time. Where a path names a job, a key, a file or so, most of
them name one that is there. With `FUZZ_EXAMPLES=100` each route gets so many, and all that schemathesis can list besides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.contract.makers import gpus, heard, running, step, submitted
from tests.server.serving import Serving, serving

from steep.server.app import routed_app
from steep.server.settings import Bounds
from steep.spec.reports import CheckpointReport, EvaluationReport

IS_DEEP = "FUZZ_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
UNBOUNDED = Bounds(requests_per_second=1e6, burst_requests=10**6, failures_per_minute=10**6, silence_seconds=5.0)

schema = schemathesis.openapi.from_dict(
    routed_app().openapi(),
    config=SchemathesisConfig.from_dict({"phases": {"coverage": {"enabled": IS_DEEP}, "stateful": {"enabled": False}}}),
)


@dataclass
class There:
    """A service with things in it, and their names by the parameter of the path that they stand for."""

    address: str
    key: str
    names: dict[str, str]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    with serving(tmp_path_factory.mktemp("fuzz"), bounds=UNBOUNDED) as house:
        yield There(house.address, house.key(), _fill(house))


def _fill(house: Serving) -> dict[str, str]:
    store, now = house.service.store, time.time()
    submitted(store, now, "another")
    attempt = running(store, now, gpus(0))
    scored = EvaluationReport(step=1, tokens_seen=1000, domain_bpb={"a": 1.0}, general_bpb={"b": 1.0})
    heard(store, attempt, now + 2, step(1), CheckpointReport(step=1, event="saved", size_bytes=10), scored)
    with house.http(house.key()) as http:

        def make(method: str, path: str, **values: str) -> dict[str, Any]:
            answer = http.request(method, f"/api/v1{path}", json=values)
            assert answer.status_code in (200, 201), answer.text
            made: dict[str, Any] = answer.json()
            return made

        make("POST", "/projects", name="fuzz")
        make("PUT", "/secrets/FUZZ", value="a value")
        key = make("POST", "/keys", name="another")["id"]
    return {"job": attempt.job_id, "number": "1", "step": "1", "project": "fuzz", "name": "FUZZ", "key": key}


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_the_server_or_its_word(case: schemathesis.Case, there: There) -> None:
    for name, value in there.names.items():
        if name in case.path_parameters and crc32(repr((case.query, case.body)).encode()) % 4:
            case.path_parameters[name] = value
    case.call_and_validate(
        base_url=there.address, headers={"Authorization": f"Bearer {there.key}"}, checks=CHECKS, timeout=20
    )
