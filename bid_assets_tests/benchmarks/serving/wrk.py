"""Closed-loop load by wrk (Debian's package `wrk`): as many requests as a server takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
%s
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local next = 0
request = function()
  next = next %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[next])
end
"""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Load:
    """What a server did under load; times in seconds."""

    rate: float
    p50: float
    p99: float


def available() -> bool:
    """Whether wrk is on this machine."""
    return shutil.which("wrk") is not None


def load(url: str, bodies: Sequence[object], *, seconds: int, connections: int, key: str | None = None) -> Load:
    """Post the bodies, one after the other and again. Raises `RuntimeError` where an answer was not 2xx."""
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder) / "bodies", Path(folder) / "post.lua"
        lines.write_bytes(b"\n".join(orjson.dumps(body) for body in bodies))
        header = f'wrk.headers["X-API-Key"] = "{key}"' if key else ""
        script.write_text(SCRIPT % (header, lines))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", str(script), url]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(f"{url} does not answer as it should:\n{told}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert rate is not None, told
    return Load(float(rate.group(1)), _percentile(told, 50), _percentile(told, 99))


def _percentile(told: str, which: int) -> float:
    found = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m)\s*$", told, re.MULTILINE)
    assert found is not None, told
    return float(found.group(1)) * _UNITS[found.group(2)]
