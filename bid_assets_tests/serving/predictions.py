"""Prediction records for tests; run as a program, it adds some thousands a second until it is killed."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pyarrow as pa

from bid_assets.app_db.database import prediction_db_url
from bid_assets.common.windows import TimeRange
from bid_assets.prediction_log.reader import open_prediction_reader
from bid_assets.prediction_log.writer import PredictionLog, PredictionRecord
from bid_assets.settings import Settings, get_settings

NAMES = ["amount", "bids_90d", "weekend"]
ALL_TIME = TimeRange(datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def make_records(count: int, at: datetime | None = None, **values: object) -> list[PredictionRecord]:
    """Predictions that differ, all of one moment (now, if none is given)."""
    matrix = np.random.default_rng(count).random((count, len(NAMES)), np.float32)
    matrix[:, 1] = np.nan
    at = at or datetime.now(UTC)
    usual = {
        "bid_id": None,
        "profile_id": "p",
        "job_id": "j",
        "model": "model_1",
        "dataset": "dataset_1",
        "variant": "active",
        "probability": 0.25,
        "decision": False,
    }
    return [PredictionRecord(id=uuid4().hex, at=at, features=row, **{**usual, **values}) for row in matrix]  # type: ignore[arg-type]


def logged_rows(settings: Settings, span: TimeRange = ALL_TIME) -> pa.Table:
    with open_prediction_reader(prediction_db_url(settings)) as predictions, predictions.stream(span) as rows:
        return rows.read_all()


def write(settings: Settings, predictions: Sequence[PredictionRecord], names: Sequence[str] = NAMES) -> None:
    """As a service does, from its start to its end."""
    log = PredictionLog(settings)
    log.name_features(predictions[0].model, names)
    log.add(predictions)
    log.close()
    assert log.lost == 0, log.error


def main(prefix: str, rows: int, pause: float) -> None:
    """Add `rows` predictions at a time and say so, until asked to end (then the log is closed) or killed."""
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    log = PredictionLog(get_settings())
    log.name_features("model_1", NAMES)
    number = 0
    while not ended:
        at = datetime.now(UTC)
        log.add(
            [
                PredictionRecord(
                    f"{prefix}{number + n:09d}",
                    at,
                    None,
                    "p",
                    "j",
                    "model_1",
                    "d",
                    "active",
                    0.5,
                    True,
                    np.zeros(94, np.float32),
                )
                for n in range(rows)
            ]
        )
        number += rows
        print(number, at.timestamp(), flush=True)
        time.sleep(pause)
    log.close()
    print(number, "added,", log.lost, "lost", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
