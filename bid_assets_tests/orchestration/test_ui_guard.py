"""What reaches Dagster's UI: over real HTTP and web sockets, with the headers that browsers send."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
import websockets.sync.client
from websockets.exceptions import InvalidStatus

from bid_assets.cli import main
from bid_assets.orchestration.ui_guard import ForeignRequestGuard, UnguardedUiError, refuse_unguarded
from bid_assets.settings import Settings
from bid_assets_tests.loops import eventually, free_port

PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}
MUTATION = "/graphql?query=mutation%20%7B%20launch%20%7D"


async def ui(scope: Any, receive: Any, send: Any) -> None:
    """Stands for Dagster's UI: it does whatever it is asked."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "welcome"})
        await send({"type": "websocket.close"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    guarded = ForeignRequestGuard(ui, ["UI.example.org"])
    server = uvicorn.Server(uvicorn.Config(guarded, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    eventually(lambda: server.started)
    yield port
    server.should_exit = True
    thread.join(10)


def ask(port: int, path: str = "/graphql", method: str = "POST", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=named)


def connect(port: int, **headers: str) -> str | bytes:
    with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/graphql", additional_headers=headers, proxy=None) as socket:
        return socket.recv(10)


@pytest.mark.parametrize(
    "host", ["localhost:3333", "127.0.0.1", "[::1]:3000", "127.8.8.8:80", "ui.example.org", "UI.EXAMPLE.ORG:443"]
)
def test_names_of_this_machine_and_those_of_the_setting_are_let_in(port: int, host: str) -> None:
    assert ask(port, Host=host).text == "done"
    assert ask(port, Host=host, Origin=f"https://{host}").text == "done"


@pytest.mark.parametrize(
    "host", ["evil.org", "localhost.evil.org", "10.0.0.1:3000", "127.0.0.1.evil.org", "[::", "", "x@localhost"]
)
def test_a_foreign_host_is_refused_since_its_name_may_be_made_to_point_here(port: int, host: str) -> None:
    refused = ask(port, Host=host)
    assert refused.status_code in (400, 403)
    assert refused.text != "done"


@pytest.mark.parametrize("origin", ["https://evil.org", "http://localhost:8080", "null", "file://", "http://127.0.0.1"])
def test_a_page_of_another_origin_may_ask_for_nothing(port: int, origin: str) -> None:
    refused = ask(port, Origin=origin)
    assert refused.status_code == 403
    assert "another origin" in refused.text
    with pytest.raises(InvalidStatus, match="403"):
        connect(port, Origin=origin)


def test_the_pages_of_the_ui_may_ask_and_open_web_sockets(port: int) -> None:
    own = f"http://127.0.0.1:{port}"
    assert ask(port, Origin=own, Sec_Fetch_Site="same-origin").text == "done"
    assert connect(port, Origin=own) == "welcome"


def test_a_program_that_sends_no_origin_may_ask(port: int) -> None:
    assert ask(port).text == "done"
    assert connect(port) == "welcome"


def test_an_image_of_another_website_launches_nothing(port: int) -> None:
    for site in ("cross-site", "same-site"):
        headers = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}
        assert ask(port, MUTATION, "GET", **headers).status_code == 403


def test_a_link_on_another_website_opens_a_page_and_launches_nothing(port: int) -> None:
    link = {name.replace("-", "_"): value for name, value in PAGE.items()}
    assert ask(port, "/assets/trained_model", "GET", **link).text == "done"
    assert ask(port, MUTATION, "GET", **link).status_code == 403
    assert ask(port, "/report_asset_materialization/x", "POST", **link).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "machine.example.org"])
def test_a_ui_that_others_could_reach_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(UnguardedUiError, match=r"ssh -L(.|\n)*BID_ASSETS_UI_HOSTS(.|\n)*--service-host"):
        refuse_unguarded(host, [])
    refuse_unguarded(host, Settings(ui_hosts="ui.example.org, other").ui_host_names)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_the_ui_needs_nothing_in_front(host: str) -> None:
    refuse_unguarded(host, [])


def test_up_refuses_before_it_starts_anything(settings: Settings) -> None:
    from click.testing import CliRunner

    refused = CliRunner().invoke(main, ["up", "--host", "0.0.0.0"])
    assert refused.exit_code == 1
    assert "refusing to let Dagster's UI listen on 0.0.0.0" in refused.output
