"""Whatever the OpenAPI description allows, or nearly allows, gets the described response over real HTTP: no 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.serving.middleware.api_keys import create_key
from bid_assets_tests.platforms import small_platform
from bid_assets_tests.serving.servers import Server, serving

pytestmark = pytest.mark.slow

EXAMPLES = 25
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def server(postgres: EmbeddedServer, static_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With a key that may do everything, so that what is fuzzed is the app and not the door."""
    with small_platform(postgres, tmp_path_factory.mktemp("fuzz"), static_encoder) as platform:
        key = create_key(platform.settings.resolved_api_keys, "fuzzer", ["admin"])
        with serving(platform) as running:
            running.http.headers.update({"X-API-Key": key, "Authorization": f"Bearer {key}"})
            yield running


@pytest.fixture(scope="module")
def description(server: Server) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=dict(server.http.headers))


BODIES = ["/predict", "/predict/batch", "/predict/explain", "/predict/what-if", "/predict/features"]
PLAIN = ["/model", "/health", "/ready", "/metrics"]
REQUESTS = [
    *(("POST", path, mode) for path in BODIES for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)),
    ("POST", "/reload", GenerationMode.POSITIVE),
    *(("GET", path, GenerationMode.POSITIVE) for path in PLAIN),
]


def test_everything_that_is_described_is_fuzzed(description: schemathesis.BaseSchema) -> None:
    described = {(found.ok().method.upper(), found.ok().path) for found in description.get_all_operations()}
    assert described == {(method, path) for method, path, _ in REQUESTS}


@pytest.mark.parametrize(("method", "path", "mode"), REQUESTS, ids=lambda value: getattr(value, "value", value))
def test_every_request_is_answered_as_described(
    server: Server, description: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    answered = []

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=description[path][method].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        answer = case.call(headers={name: server.http.headers[name] for name in ("X-API-Key", "Authorization")})
        case.validate_response(answer, checks=CHECKS)
        answered.append(answer.status_code)

    ask()
    assert answered


def test_after_all_of_this_it_still_answers(server: Server) -> None:
    assert server.get("/ready")["ready"]
    errors = [line for line in server.log.read_text().splitlines() if '"level":"error"' in line]
    assert errors == []
