"""Where the prediction services of a home listen: a small file each while it runs; and what they say of themselves when asked.

Standard library only: `bid-assets status` asks, and must not load the service for that.
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

ANSWER_SECONDS = 2.0
"""A service that does not answer within this time is reported as silent."""
_FOLDER = "services"


@dataclass(frozen=True)
class ServiceReport:
    """What the service at `url` answers to `/ready`; `error`: why there is no answer."""

    url: str
    ready: bool = False
    model_version: str | None = None
    reason: str | None = None
    """Why nothing serves, or what serves is not what should."""
    refused: dict[str, str] | None = None
    """Version -> why it cannot serve."""
    error: str | None = None


@contextmanager
def announced(home: Path, host: str, port: int) -> Iterator[None]:
    """While the block runs, `home` says that this process serves at this address."""
    file = home / _FOLDER / f"{port}.json"
    reachable = "127.0.0.1" if host in ("0.0.0.0", "") else f"[{host}]" if ":" in host else host
    reachable = "[::1]" if reachable == "[::]" else reachable
    own = json.dumps({"url": f"http://{reachable}:{port}", "pid": os.getpid()})
    with suppress(OSError):  # a home that cannot be written serves all the same; `status` does not know of it then
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{os.getpid()}")
        beside.write_text(own)
        beside.replace(file)
    try:
        yield
    finally:
        if _text(file) == own:  # else another one has taken the port since
            file.unlink(missing_ok=True)


def running_services(home: Path) -> list[ServiceReport]:
    """What each service of this home says; one whose process has gone is left out."""
    announcements = [_announcement(file) for file in sorted((home / _FOLDER).glob("*.json"))]
    return [ask(found["url"]) for found in announcements if found is not None and _alive(found["pid"])]


def ask(url: str) -> ServiceReport:
    """What the service at `url` says of itself, within `ANSWER_SECONDS`."""
    try:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=ANSWER_SECONDS) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            answer = json.load(error)
        return ServiceReport(url, answer["ready"], answer["model_version"], answer["reason"], answer["refused"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return ServiceReport(url, error=str(getattr(error, "reason", None) or error or type(error).__name__))


def _announcement(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(_text(file) or "null")
        return {"url": str(found["url"]), "pid": int(found["pid"])}
    except (ValueError, KeyError, TypeError):
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
