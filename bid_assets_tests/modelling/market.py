"""A small market for tests: bids whose success hangs on features of every kind, with outcomes that come late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from bid_assets.app_db.contract import TIME
from bid_assets.common.windows import Cadence
from bid_assets.features.family import VECTOR, Feature, FeatureFamily
from bid_assets.modelling.dataset.assemble import assemble
from bid_assets_tests.features.tables import START, bids_table, outcomes_table

DIMENSION = 12
CUTOFF = START + timedelta(days=200)


def family(name: str, key: str, *features: Feature) -> FeatureFamily:
    """A family that is declared only; tests bring its table."""
    return FeatureFamily(name, name, key, (), features, lambda *_: pa.table({}))  # type: ignore[arg-type]


HISTORY = family("profile_historical_features", "bid_id", Feature("rate", pa.float64(), ""), Feature("bids", pa.int32(), ""))
TERMS = family(
    "terms",
    "bid_id",
    Feature("fixed", pa.bool_(), ""),
    Feature("level", pa.string(), ""),
    Feature("skills", pa.list_(pa.string()), ""),
)
TEXT = family("bid_text_embeddings", "bid_id", Feature("text", VECTOR, ""))
JOB = family("job_description_embeddings", "job_id", Feature("job", VECTOR, ""))


@dataclass(frozen=True)
class Market:
    """Raw tables and features of a simulated history."""

    bids: pa.Table
    outcomes: pa.Table
    features: list[tuple[FeatureFamily, pa.Table]]

    def dataset(self, holdout_share: float = 0.2, cutoff: datetime = CUTOFF) -> pa.Table:
        """The market's training dataset."""
        return assemble(
            self.bids,
            self.outcomes,
            self.features,
            cutoff=cutoff,
            holdout_share=holdout_share,
            cadence=Cadence.WEEKLY,
        )


def market(rows: int = 1500, *, success_share: float = 0.7, seed: int = 0) -> Market:
    """`rows` bids over 190 days; an outcome is known 1 to 10 days after its bid."""
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.uniform(0, 190 * 24, rows))
    ids, jobs = [f"b{n:06d}" for n in range(rows)], [f"j{n % 50}" for n in range(rows)]
    rate, bids_before = rng.random(rows), rng.integers(0, 30, rows)
    level, fixed = rng.choice(["entry", "expert", "intermediate"], rows), rng.random(rows) < 0.5
    text = rng.normal(size=(rows, DIMENSION)).astype(np.float32)
    text[:, 3] *= 4
    signal = 4 * (rate - 0.5) + (level == "expert") + 0.4 * text[:, 3] + rng.logistic(size=rows)
    success = signal > np.quantile(signal, 1 - success_share)
    known = hours + rng.uniform(24, 240, rows)
    bids = bids_table([(name, f"p{n % 40}", hour) for n, (name, hour) in enumerate(zip(ids, hours, strict=True))], job_id=jobs)
    outcomes = outcomes_table([(f"o{name}", name, bool(s), k) for name, s, k in zip(ids, success, known, strict=True)])
    skills = [["python", "sql"] if n % 3 else ["python"] for n in range(rows)]
    missing = rng.random(rows) < 0.1
    keys = {"bid_id": bids["id"], "submitted_at": bids["submitted_at"]}
    features = [
        (HISTORY, pa.table({**keys, "rate": pa.array(rate, mask=missing), "bids": pa.array(bids_before, pa.int32())})),
        (TERMS, pa.table({**keys, "fixed": fixed, "level": pa.array(level, mask=missing), "skills": skills})),
        (TEXT, pa.table({**keys, "text": vectors(text, missing)})),
        (JOB, job_table(bids, rng)),
    ]
    return Market(bids, outcomes, features)


def vectors(values: np.ndarray, missing: np.ndarray | None = None) -> pa.FixedSizeListArray:
    """A column of vectors from an array of shape (rows, dimension)."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), pa.float32()), values.shape[1])
    return column if missing is None else column.take(pa.array(np.arange(len(values)), mask=missing))


def job_table(bids: pa.Table, rng: np.random.Generator) -> pa.Table:
    """One vector per week and job of `bids`."""
    weeks = [Cadence.WEEKLY.floor(moment) for moment in bids["submitted_at"].to_pylist()]
    pairs = sorted(set(zip(weeks, bids["job_id"].to_pylist(), strict=True)))
    return pa.table(
        {
            "job_id": [job for _, job in pairs],
            "window": pa.array([week for week, _ in pairs], TIME),
            "job": vectors(rng.normal(size=(len(pairs), DIMENSION)).astype(np.float32)),
        }
    )


def day(number: float) -> datetime:
    """A moment, in days after the start of the market."""
    return datetime.fromtimestamp((START + timedelta(days=number)).timestamp(), UTC)
