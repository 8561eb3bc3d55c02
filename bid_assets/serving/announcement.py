"""Service discovery: a file in the home for each running prediction service, and its readiness over HTTP.

Standard library only: `bid-assets status` uses it, and must not load the service for that.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESPONSE_SECONDS = 2.0
"""A service that does not respond within this time is reported with an error."""
_DIRECTORY = "services"


@dataclass(frozen=True)
class ServiceReport:
    """The `/ready` response of the service at `url`; `error`: why there is none."""

    url: str
    ready: bool = False
    model_version: str | None = None
    reason: str | None = None
    """Why nothing serves, or what serves is not what should."""
    refused: dict[str, str] | None = None
    """Version -> why it cannot serve."""
    error: str | None = None


@contextmanager
def service_announcement(home: Path, host: str, port: int) -> Iterator[None]:
    """While the block runs, a file in `home` names the address and process of this service."""
    file = home / _DIRECTORY / f"{port}.json"
    address = "127.0.0.1" if host in ("0.0.0.0", "") else f"[{host}]" if ":" in host else host
    address = "[::1]" if address == "[::]" else address
    content = json.dumps({"url": f"http://{address}:{port}", "pid": os.getpid()})
    with suppress(OSError):  # a home that cannot be written serves all the same; `status` does not know of it then
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(content)
        temporary.replace(file)
    try:
        yield
    finally:
        if _read_text(file) == content:  # else another one has taken the port since
            file.unlink(missing_ok=True)


def running_services(home: Path) -> list[ServiceReport]:
    """The report of each service of this home whose process is alive."""
    announcements = [_read_announcement(file) for file in sorted((home / _DIRECTORY).glob("*.json"))]
    return [
        query_service(announcement["url"])
        for announcement in announcements
        if announcement is not None and _is_alive(announcement["pid"])
    ]


def query_service(url: str) -> ServiceReport:
    """Query `/ready` of the service at `url`, within `RESPONSE_SECONDS`."""
    try:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=RESPONSE_SECONDS) as response:
                body = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            body = json.load(error)
        return ServiceReport(url, body["ready"], body["model_version"], body["reason"], body["refused"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return ServiceReport(url, error=str(getattr(error, "reason", None) or error or type(error).__name__))


def _read_announcement(file: Path) -> dict[str, Any] | None:
    try:
        announcement = json.loads(_read_text(file) or "null")
        return {"url": str(announcement["url"]), "pid": int(announcement["pid"])}
    except (ValueError, KeyError, TypeError):
        return None


def _read_text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
