"""Starts what is measured: the service over a simulated market, its peers, and MLflow's scoring server with the same
booster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bid_assets.deployments.events import active_model
from bid_assets.embedded_postgres.server import shared_server as embedded_server
from bid_assets.features.embeddings.model_files import static_model_folder
from bid_assets.modelling.estimators.column_encoders import PROFILE_COLUMN, encode
from bid_assets.serving.middleware.api_keys import create_key
from bid_assets.serving.models.loaded_model import LoadedModel
from bid_assets.serving.online_features import OnlineFeatures
from bid_assets.serving.schemas import BidIn
from bid_assets.settings import Settings
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.benchmarks.serving import BOOSTER, NAMES
from bid_assets_tests.conftest import CHECKOUT, settings_for
from bid_assets_tests.loops import free_port
from bid_assets_tests.platforms import call

HERE = Path(__file__).parent
PATIENCE = 120.0
ROWS = 256
"""Bids that are asked about, one after the other and again."""


@dataclass(frozen=True)
class Bodies:
    """The same bids as each contender wants them."""

    bids: list[dict[str, Any]]
    """For `/predict`: as of now."""
    ready: list[dict[str, Any]]
    """For `/predict/features`: all features of the bids, vectors included."""
    columns: list[str]
    """The numbers that the booster sees."""
    rows: list[list[float]]
    """Them, of each bid; what is missing is 0, since pandas makes a column of objects of a lone null."""


@contextmanager
def market(folder: Path, weeks: int, bids: int) -> Iterator[Settings]:
    """Settings of a platform with an active model, after one run of the whole loop; databases that keep what they are given."""
    folder.chmod(0o755)
    postgres = embedded_server(folder / "postgres")
    with settings_for(folder, postgres.url("bench_app"), postgres.url("bench_dagster")) as settings:
        settings.home.mkdir()
        (settings.home / "encoders").symlink_to(static_model_folder(CHECKOUT / ".bid_assets" / "tests").parent)
        call("marketplace", "create", "--weeks", str(weeks), "--bids", str(bids))
        call("run")
        yield settings
    postgres.release()


def bodies(settings: Settings, folder: Path) -> Bodies:
    """What is asked; the booster and its columns are left in `folder` for the peers."""
    store = VersionStore(settings.resolved_store_url)
    active = active_model(store)
    assert active is not None, "no model became active"
    model = LoadedModel.load(store, active.model)
    keys = store.partitions("raw_bids")[-1:]
    rows = WindowedTable(store, "raw_bids", keys, store.heads("raw_bids", keys)).read().slice(0, ROWS).to_pylist()
    bids = [
        {
            "profile_id": bid["profile_id"],
            "job_id": bid["job_id"],
            "bid_text": bid["generated_bid_text"],
            "amount": bid["amount"],
            "settings": bid["bid_settings_snapshot"],
        }
        for bid in rows
    ]
    online = OnlineFeatures(settings)
    table = online.features([BidIn(**bid).to_request() for bid in bids]).table
    online.close()
    matrix = np.nan_to_num(encode(table, model.scorer.encoders)[:, : model.scorer.numeric_count]).astype(
        float
    )  # what the trees see
    (folder / "booster.ubj").write_bytes(model.scorer.booster)
    names = [f"number_{number}" for number in range(matrix.shape[1])]  # XGBoost allows no brackets in names of columns
    (folder / "names.json").write_text(json.dumps(names))
    ready = [{"profile_id": features.pop(PROFILE_COLUMN), "features": features} for features in table.to_pylist()]
    return Bodies(bids, ready, names, matrix.tolist())


@contextmanager
def service(settings: Settings, *options: str) -> Iterator[tuple[str, int, str]]:
    """URL, process id and API key of `bid-assets serve`, with its logs in a file, as in real life."""
    name = f"bench{time.monotonic_ns()}"
    key = create_key(settings.resolved_api_keys, name, ["predict"])
    port = free_port()
    program = [str(Path(sys.executable).with_name("bid-assets")), "serve", "--port", str(port), *options]
    with _started(program, port, "/ready", settings.home / f"{name}.log") as pid:
        yield f"http://127.0.0.1:{port}", pid, key


@contextmanager
def peers(folder: Path) -> Iterator[str]:
    """URL of the endpoints in `peers`, by the same uvicorn with the same loop and parser."""
    port = free_port()
    program = [sys.executable, "-m", "uvicorn", "bid_assets_tests.benchmarks.serving.peers:app", "--port", str(port)]
    more = {BOOSTER: str(folder / "booster.ubj"), NAMES: str(folder / "names.json")}
    with _started([*program, "--no-access-log"], port, "/docs", folder / "peers.log", more):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def mlflow(python: Path, folder: Path) -> Iterator[str]:
    """URL of MLflow's scoring server with one worker, as its command line starts it."""
    port = free_port()
    model = folder / "mlflow_model"
    own = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    made = [str(python), str(HERE / "mlflow_model.py"), str(folder / "booster.ubj"), str(folder / "names.json"), str(model)]
    subprocess.run(made, check=True, env={**os.environ, **own}, capture_output=True)
    serve = [str(python.with_name("mlflow")), "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with _started([*serve, *where], port, "/ping", folder / "mlflow.log", own):
        yield f"http://127.0.0.1:{port}/invocations"


@contextmanager
def _started(
    program: Sequence[str], port: int, path: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            program,
            cwd=CHECKOUT,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(f"http://127.0.0.1:{port}{path}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program[:4]} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
