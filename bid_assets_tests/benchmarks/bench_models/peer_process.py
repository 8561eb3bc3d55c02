"""The peers, asked in the virtual environment that has their libraries: Parquet files handed over, probabilities back.

The peers' answers are kept, by a hash of the rows and of `peers.py`: where only our model has changed they are not
fitted again.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.decomposition import PCA

from bid_assets.modelling.backtesting.cutoff import TrainTestRows
from bid_assets.modelling.estimators import column_encoders
from bid_assets.modelling.evaluation.metrics import Probabilities
from bid_assets.modelling.model import BidSuccessModel
from bid_assets_tests.benchmarks.bench_models.data_sets import DataSet

SCRIPT = Path(__file__).parent / "peers.py"
SECONDS = 1800
"""How long the peers may take at one cutoff."""
COMPONENTS = 16
"""Principal components that stand for an embedding."""


@dataclass(frozen=True)
class PeerProcess:
    """Runs `peers.py`."""

    python: Path
    """Of the environment with the peers' libraries."""
    cache: Path
    """Folder of answers."""

    def probabilities(self, train: pa.Table, test: pa.Table) -> tuple[dict[str, Probabilities], dict[str, Any]]:
        """Each peer's probabilities of success of the test rows, and facts: `versions`, `cpu_seconds`.

        Raises `RuntimeError` where a peer fails, `subprocess.TimeoutExpired` after `SECONDS`.
        """
        with tempfile.TemporaryDirectory(prefix="bench-models-") as name:
            folder = Path(name)
            for part, rows in (("train", train), ("test", test)):
                pq.write_table(rows, folder / f"{part}.parquet")
            digest = sha256(SCRIPT.read_bytes())
            for part in ("train", "test"):
                digest.update((folder / f"{part}.parquet").read_bytes())
            answer = self.cache / f"{digest.hexdigest()[:24]}.parquet"
            if not answer.exists():
                self._run(folder)
                self.cache.mkdir(parents=True, exist_ok=True)
                (folder / "probabilities.parquet").replace(answer)
        table = pq.read_table(answer)
        if table["bid_id"].to_pylist() != test["bid_id"].to_pylist():
            raise RuntimeError(f"{answer} has other rows than were asked about; delete it and run again")
        probabilities = {name: table[name].to_numpy() for name in table.column_names if name != "bid_id"}
        return probabilities, json.loads(table.schema.metadata[b"facts"])

    def _run(self, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.python), "-P", str(SCRIPT), str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
        if run.returncode:
            raise RuntimeError(f"the peers failed; `{' '.join(command[:-1])} ...` said:\n{run.stderr[-2000:]}")


def peer_rows(data: DataSet, rows: TrainTestRows, model: BidSuccessModel) -> tuple[pa.Table, pa.Table]:
    """Train and test rows for the peers: ids, the bid's text, the numbers that our trees see (but the rating),
    embeddings reduced."""
    kinds = (column_encoders.PassthroughEncoder, column_encoders.NamedNumbersEncoder, column_encoders.MultiHotEncoder)
    encoders = [encoder for encoder in model.encoders if isinstance(encoder, kinds)]
    names = [f"feature:{name}" for encoder in encoders for name in encoder.names]
    tables = []
    for dataset in (rows.train, rows.test):
        matrix = column_encoders.encode(dataset, encoders)
        columns = {**_ids_and_text(data, dataset), **dict(zip(names, matrix.T, strict=True))}
        tables.append(pa.table(columns))
    tables[0] = tables[0].append_column("success", rows.train["target_is_success"])
    for column in rows.train.column_names:
        if pa.types.is_fixed_size_list(rows.train.schema.field(column).type):
            for number, parts in enumerate(_components(rows.train[column], rows.test[column])):
                name = f"feature:{column}[{number}]"
                tables = [table.append_column(name, pa.array(part)) for table, part in zip(tables, parts, strict=True)]
    return tables[0], tables[1]


def _ids_and_text(data: DataSet, dataset: pa.Table) -> dict[str, pa.ChunkedArray]:
    bids, jobs = data.raw["raw_bids"], data.raw["raw_jobs"]
    return {
        "bid_id": dataset["bid_id"],
        "text": bids["generated_bid_text"].take(pc.index_in(dataset["bid_id"], value_set=bids["id"])),
        "profile_id": dataset["profile_id"],
        "job_id": dataset["job_id"],
        "client_id": jobs["client_id"].take(pc.index_in(dataset["job_id"], value_set=jobs["id"])),
    }


def _components(train: pa.ChunkedArray, test: pa.ChunkedArray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The principal components of an embedding's train values, of train and of test rows; NaN where there is no embedding."""
    present = [~np.asarray(side.is_null()) for side in (train, test)]
    vectors = [np.stack(side.drop_null().to_numpy()) if side.null_count < len(side) else None for side in (train, test)]
    if vectors[0] is None:
        return []
    pca = PCA(min(COMPONENTS, *vectors[0].shape), svd_solver="covariance_eigh").fit(vectors[0])
    sides = [np.full((len(mask), pca.n_components_), np.nan, dtype=np.float32) for mask in present]
    for side, mask, values in zip(sides, present, vectors, strict=True):
        if values is not None:
            side[mask] = pca.transform(values)
    return list(zip(sides[0].T, sides[1].T, strict=True))
