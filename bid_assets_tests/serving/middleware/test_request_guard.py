"""The door of the service, over real HTTP: who is let in, to what, how often, with how much, and for how long."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import orjson
import pytest
from fastapi import FastAPI, Request

from bid_assets.serving.middleware.access_log import JsonLog
from bid_assets.serving.middleware.api_keys import ApiKeyStore, create_key, revoke_key
from bid_assets.serving.middleware.prometheus import Metrics
from bid_assets.serving.middleware.request_guard import RequestLimits, RequestMiddleware
from bid_assets_tests.serving.http import run_app

SCOPES = {
    "/predict": "predict",
    "/slow": "predict",
    "/stuck": "predict",
    "/boom": "predict",
    "/docs": "predict",
    "/reload": "admin",
    "/health": None,
}
GENEROUS = RequestLimits(body_bytes=1000, seconds=5)


@dataclass
class Service:
    """A service behind a guard, and what it has logged."""

    client: httpx.Client
    path: Path
    output: io.BytesIO
    log: JsonLog
    metrics: Metrics

    def lines(self) -> list[dict[str, object]]:
        """All lines until now: they are written in order, so the last of them is waited for."""
        end = uuid4().hex
        self.log.log_request(time.time(), end, "GET", "/", 200, 0.0, None, None, None)
        deadline = time.monotonic() + 10
        while end.encode() not in self.output.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        lines = [orjson.loads(line) for line in self.output.getvalue().splitlines()]
        return [line for line in lines if line.get("path") != "/"]


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, object]:
        request.state.model_version = "v1"
        return {"bytes": len(await request.body()), "request_id": request.state.request_id}

    @app.post("/reload")
    async def reload() -> str:
        return "reloaded"

    @app.get("/health")
    async def health() -> str:
        return "alive"

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(30)

    @app.get("/stuck")
    def stuck() -> None:
        time.sleep(2)  # in a thread, which cancelling does not interrupt

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("something only developers should read")

    @app.get("/unlisted")
    async def unlisted() -> str:
        return "secret"

    return app


@contextmanager
def running_service(path: Path, limits: RequestLimits = GENEROUS) -> Iterator[Service]:
    output = io.BytesIO()
    log, metrics = JsonLog(output), Metrics()
    app = application()
    app.add_middleware(RequestMiddleware, scopes=SCOPES, key_store=ApiKeyStore(path), limits=limits, log=log, metrics=metrics)
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    log.install()
    try:
        with run_app(app) as client:
            yield Service(client, path, output, log, metrics)
    finally:
        log.close()
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    with ExitStack() as stack:
        yield lambda limits=GENEROUS: stack.enter_context(running_service(tmp_path / "api_keys.json", limits))


def error_body(response: httpx.Response) -> dict[str, object]:
    body = response.json()
    assert list(body) == ["error"]
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    error: dict[str, object] = body["error"]
    return error


def test_without_keys_everybody_on_this_machine_is_let_in(start_service: Callable[..., Service]) -> None:
    client = start_service().client
    assert client.post("/predict", content=b"abc").json()["bytes"] == 3
    assert client.post("/reload").status_code == 200


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_key_opens_what_its_scope_says(start_service: Callable[..., Service], tmp_path: Path, header: str) -> None:
    bidder = create_key(tmp_path / "api_keys.json", "bidder", ["predict"])
    ops = create_key(tmp_path / "api_keys.json", "ops", ["admin"])
    client = start_service().client

    def status(method: str, path: str, key: str) -> int:
        value = f"Bearer {key}" if header == "Authorization" else key
        return client.request(method, path, headers={header: value}).status_code

    assert [status("POST", "/predict", key) for key in (bidder, ops)] == [200, 200]
    assert [status("POST", "/reload", key) for key in (bidder, ops)] == [403, 200]
    assert status("GET", "/docs", bidder) == 200


def test_without_a_valid_key_nothing_but_the_open_paths_is_reached(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    token = create_key(tmp_path / "api_keys.json", "bidder", ["predict"])
    client = start_service().client
    for headers in (
        {},
        {"Authorization": "Bearer " + token[:-1] + "x"},
        {"Authorization": "Basic " + token},
        {"X-API-Key": ""},
    ):
        for path in ("/predict", "/reload", "/docs", "/openapi.json", "/nothing"):
            answer = client.post(path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert error_body(answer)["code"] == "unauthorized"
    assert client.get("/health").status_code == 200


def test_what_is_lacking_is_said(start_service: Callable[..., Service], tmp_path: Path) -> None:
    token = create_key(tmp_path / "api_keys.json", "bidder", ["predict"])
    body = error_body(start_service().client.post("/reload", headers={"X-API-Key": token}))
    assert (body["code"], body["scope"], body["message"]) == ("forbidden", "admin", "the key bidder lacks the scope admin")


def test_a_path_that_only_a_router_takes_for_an_admin_one_is_none(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Starlette's patterns end in `$`, which a line break at the end of the path satisfies."""
    token = create_key(tmp_path / "api_keys.json", "bidder", ["predict"])
    client = start_service().client
    for path in ("/reload%0A", "/reload/", "//reload", "/%72eload%0a", "/unlisted", "/predict/../reload%0A"):
        answer = client.post(path, headers={"X-API-Key": token})
        assert answer.status_code in (404, 403), path
        assert answer.text != '"reloaded"'


def test_a_revoked_key_is_refused_within_a_second_and_no_restart(start_service: Callable[..., Service], tmp_path: Path) -> None:
    token = create_key(tmp_path / "api_keys.json", "bidder", ["predict"])
    client = start_service().client
    assert client.post("/predict", headers={"X-API-Key": token}).status_code == 200
    revoke_key(tmp_path / "api_keys.json", "bidder")
    time.sleep(1.05)
    assert client.post("/predict", headers={"X-API-Key": token}).status_code == 401


def test_each_key_has_its_own_rate_and_is_told_when_to_come_again(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    one, other = (create_key(tmp_path / "api_keys.json", name, ["predict"]) for name in ("one", "other"))
    client = start_service(RequestLimits(1000, 5, rate=5)).client
    seen = [client.post("/predict", headers={"X-API-Key": one}) for _ in range(8)]
    assert [answer.status_code for answer in seen[:5]] == [200] * 5
    assert seen[-1].status_code == 429
    assert seen[-1].headers["retry-after"] == "1"
    assert error_body(seen[-1])["retry_after"] == 1
    assert client.post("/predict", headers={"X-API-Key": other}).status_code == 200
    assert client.get("/health").status_code == 200
    time.sleep(1)
    assert client.post("/predict", headers={"X-API-Key": one}).status_code == 200


def test_a_body_may_be_as_large_as_is_allowed_and_no_larger(start_service: Callable[..., Service]) -> None:
    client = start_service().client
    assert client.post("/predict", content=b"x" * 1000).json()["bytes"] == 1000
    answer = client.post("/predict", content=b"x" * 1001)
    assert answer.status_code == 413
    assert error_body(answer)["max_bytes"] == 1000


def test_a_body_that_does_not_say_how_long_it_is_is_counted(start_service: Callable[..., Service]) -> None:
    client = start_service().client

    def chunks(number: int) -> Iterator[bytes]:
        for _ in range(number):
            yield b"x" * 100

    assert client.post("/predict", content=chunks(10)).json()["bytes"] == 1000
    answer = client.post("/predict", content=chunks(11))
    assert (answer.status_code, error_body(answer)["code"]) == (413, "too large")


def test_a_large_body_is_refused_before_it_is_sent(start_service: Callable[..., Service]) -> None:
    url = start_service().client.base_url
    with socket.create_connection((url.host, url.port), timeout=5) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/slow", "/stuck"])
def test_an_answer_that_takes_too_long_is_given_up(start_service: Callable[..., Service], path: str) -> None:
    client = start_service(RequestLimits(1000, 0.2)).client
    started = time.monotonic()
    answer = client.get(path)
    assert time.monotonic() - started < 1.5
    assert (answer.status_code, error_body(answer)["code"]) == (503, "timeout")
    assert client.get("/health").status_code == 200, "the connection goes on"


def test_a_body_that_never_ends_is_given_up(start_service: Callable[..., Service]) -> None:
    url = start_service(RequestLimits(1000, 0.2)).client.base_url
    with socket.create_connection((url.host, url.port), timeout=5) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        body = connection.recv(1000)
        assert body.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in body


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_caller_who_hangs_up_within_a_body_is_no_failure_of_the_service(
    start_service: Callable[..., Service], caplog: pytest.LogCaptureFixture, rest: bytes
) -> None:
    running_service = start_service()
    with socket.create_connection(
        (running_service.client.base_url.host, running_service.client.base_url.port or 0), timeout=5
    ) as caller:
        caller.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + rest)
        time.sleep(0.05)  # the handler waits for the rest
    deadline = time.monotonic() + 5
    while (
        not (statuses := [line["status"] for line in running_service.lines() if line["event"] == "request"])
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    assert statuses == [499]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_head_is_answered_as_get_is_without_the_body(start_service: Callable[..., Service]) -> None:
    client = start_service().client
    expected = client.get("/health")
    for _ in range(2):  # the connection goes on
        answer = client.head("/health")
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(expected.content)))
    assert client.head("/predict").status_code == 405


def test_what_goes_wrong_is_told_to_the_log_and_not_to_the_caller(start_service: Callable[..., Service]) -> None:
    opened = start_service()
    answer = opened.client.get("/boom")
    assert (answer.status_code, error_body(answer)["code"]) == (500, "internal")
    assert "developers" not in answer.text
    errors = [line for line in opened.lines() if line["level"] == "error"]
    assert [(line["error"], line["request_id"]) for line in errors] == [("RuntimeError", answer.headers["x-request-id"])]
    assert str(errors[0]["error_message"]) == "something only developers should read"


@pytest.mark.parametrize("given", ["trace-1.a_B", "a" * 64])
def test_a_sane_request_id_is_taken_over(start_service: Callable[..., Service], given: str) -> None:
    answer = start_service().client.post("/predict", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, '"}', "é"])
def test_any_other_request_id_is_replaced(start_service: Callable[..., Service], given: str) -> None:
    made = start_service().client.post("/predict", headers={b"X-Request-ID": given.encode()}).headers["x-request-id"]
    assert made != given
    assert len(made) == 16


def test_every_request_is_logged_and_counted_by_its_path(start_service: Callable[..., Service], tmp_path: Path) -> None:
    token = create_key(tmp_path / "api_keys.json", "bidder", ["predict"])
    opened = start_service()
    opened.client.post("/predict?secret=1", headers={"X-API-Key": token}, content=b"of nobody's concern")
    opened.client.get("/never/heard/of", headers={"X-API-Key": token})
    lines = [line for line in opened.lines() if line["event"] == "request"]
    assert [(line["path"], line["status"], line["key"], line["model"]) for line in lines] == [
        ("/predict", 200, "bidder", "v1"),
        ("/never/heard/of", 404, "bidder", None),
    ]
    body = opened.metrics.exposition()
    assert b'bid_assets_request_seconds_count{path="/predict",status="2xx"} 1.0' in body
    assert b'bid_assets_request_errors_total{path="other",status="404"} 1.0' in body


def test_no_key_appears_in_the_log(start_service: Callable[..., Service], tmp_path: Path) -> None:
    """Wherever a caller puts it, and whatever an error message says."""
    token = create_key(tmp_path / "api_keys.json", "bidder", ["admin"])
    secret = token.rsplit("_", 1)[1]
    opened = start_service()
    for header in (
        {"X-API-Key": token},
        {"Authorization": f"Bearer {token}"},
        {"X-Request-ID": "x" + token},
        {"Cookie": token},
    ):
        opened.client.post(f"/predict?key={token}", headers=header, content=token.encode())
        opened.client.post(f"/{token}", headers=header)
    logging.getLogger("somewhere").error("cannot use %s", token, exc_info=RuntimeError(token))
    opened.lines()
    output = opened.output.getvalue()
    assert len(output.splitlines()) >= 9
    assert b"bidder" in output
    assert secret.encode() not in output


def test_the_middleware_costs_some_ten_microseconds(tmp_path: Path) -> None:
    """Alone, around an app that answers at once: with a key, a rate and all limits."""
    token = create_key(tmp_path / "api_keys.json", "bidder", ["predict"]).encode()
    log = JsonLog(io.BytesIO())
    start = {"type": "http.response.start", "status": 200}
    body = {"type": "http.response.body", "body": b"{}"}

    async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
        await send({**start, "headers": [(b"content-length", b"2")]})  # type: ignore[misc]
        await send(body)  # type: ignore[misc]

    middleware = RequestMiddleware(
        app,  # type: ignore[arg-type]
        scopes=SCOPES,
        key_store=ApiKeyStore(tmp_path / "api_keys.json"),
        limits=RequestLimits(1000, 5, 1e9),
        log=log,
        metrics=Metrics(),
    )
    headers = [(b"host", b"x"), (b"user-agent", b"y"), (b"content-length", b"2"), (b"authorization", b"Bearer " + token)]

    async def nothing(*_: object) -> None:
        pass

    async def seconds(times: int, call: Callable[..., object]) -> float:
        started = time.thread_time()  # what it costs, whoever else wants the processor
        for _ in range(times):
            scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "client": ("127.0.0.1", 1)}
            await call(scope, nothing, nothing)  # type: ignore[misc]
        return (time.thread_time() - started) / times

    async def lowest(call: Callable[..., object]) -> float:
        return min([await seconds(500, call) for _ in range(20)])

    cost = asyncio.run(lowest(middleware)) - asyncio.run(lowest(app))
    log.close()
    print(f"the middleware costs {cost * 1e6:.1f} us")
    assert cost < 60e-6, "20 us on an idle machine; three times as much on a busy one"
