"""What docs/reference/prediction_log.md shows runs as it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import psycopg2
import pyarrow as pa
import pytest

from bid_assets.app_db.connections import engine
from bid_assets.app_db.schema import create_tables
from bid_assets.settings import Settings
from bid_assets_tests.conftest import CHECKOUT, settings_for
from bid_assets_tests.serving.predictions import logged_rows, make_records, write

NOW = datetime.now(UTC)


@pytest.fixture
def settings(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Settings]:
    url = new_database()
    with settings_for(tmp_path, url, url) as made:
        yield made


def block(language: str) -> str:
    [found] = re.findall(
        rf"```{language}\n(WITH matched.*?)```", (CHECKOUT / "docs" / "reference" / "prediction_log.md").read_text(), re.DOTALL
    )
    return str(found)


def test_outcomes_join_by_bid_or_else_by_profile_and_job(settings: Settings) -> None:
    database = engine(str(settings.app_db_url))
    create_tables(database)
    database.dispose()
    with psycopg2.connect(str(settings.app_db_url)) as connection, connection.cursor() as cursor:
        cursor.execute("insert into profiles (id) values ('p')")
        cursor.execute("insert into jobs (id) values ('j'), ('k')")
        for bid, job, age in (("before", "j", 3), ("first", "j", 1), ("second", "j", 0), ("named", "k", 9)):
            values = (bid, job, NOW - timedelta(days=age))
            cursor.execute("insert into bids (id, profile_id, job_id, submitted_at) values (%s, 'p', %s, %s)", values)
        outcomes = (("1", "first", False, 2), ("2", "first", True, 1), ("3", "second", False, 1), ("4", "named", False, 1))
        for name, bid, won, age in outcomes:
            values = (name, bid, won, NOW - timedelta(hours=age))
            cursor.execute(
                "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) values (%s, %s, %s, %s)", values
            )
    then = NOW - timedelta(days=2)
    write(
        settings,
        [
            *make_records(1, then),
            *make_records(1, then, bid_id="named", variant="canary", probability=0.5),
            *make_records(1, then, job_id="x"),
        ],
    )
    expected = [("model_1", "active", 1, 0.25, 1), ("model_1", "canary", 1, 0.5, 0)]
    with psycopg2.connect(str(settings.app_db_url)) as connection, connection.cursor() as cursor:
        cursor.execute(block("sql"))
        assert cursor.fetchall() == expected
        tables = {"predictions": logged_rows(settings)}
        for name in ("bids", "bid_outcomes"):
            cursor.execute(f"select * from {name}")
            names = [column.name for column in cursor.description or ()]
            tables[name] = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in cursor.fetchall()])
    with duckdb.connect() as duck:
        for name, table in tables.items():
            duck.register(name, table)
        assert duck.sql(block("sql").replace("bid_assets.predictions", "predictions")).fetchall() == expected
