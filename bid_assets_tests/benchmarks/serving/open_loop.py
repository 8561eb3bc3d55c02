"""Load at a rate of its own, whatever the server does: a request waits in line where all connections are taken.

Latency counts from the moment at which a request was due. wrk has no such mode: it waits for the answer before it asks again,
and so hides what a slow moment does to those who come meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import orjson
import uvloop

CONNECTIONS = 32


def latencies(
    url: str, bodies: Sequence[object], *, rate: float, seconds: float, key: str | None = None
) -> npt.NDArray[np.float64]:
    """Seconds from due to answered, of `rate * seconds` requests that come at random (a Poisson stream, always the same one).

    Raises `RuntimeError` where an answer was not 200.
    """
    return np.array(uvloop.run(_run(url, [orjson.dumps(body) for body in bodies], rate, seconds, key)))


async def _run(url: str, bodies: Sequence[bytes], rate: float, seconds: float, key: str | None) -> list[float]:
    chance = random.Random(7)
    due: asyncio.Queue[tuple[float, int] | None] = asyncio.Queue()
    taken: list[float] = []
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n".encode()
    if key:
        head += f"X-API-Key: {key}\r\n".encode()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (asked := await due.get()) is not None:
            moment, number = asked
            body = bodies[number % len(bodies)]
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{url} answered {answer[:100]!r}")
            length = int(answer.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            taken.append(time.perf_counter() - moment)
        writer.close()

    workers = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    moment = time.perf_counter()
    for number in range(int(rate * seconds)):
        moment += chance.expovariate(rate)
        if (wait := moment - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        due.put_nowait((moment, number))
    for _ in workers:
        due.put_nowait(None)
    await asyncio.gather(*workers)
    return taken
