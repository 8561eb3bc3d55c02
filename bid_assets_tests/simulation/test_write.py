from __future__ import annotations

from pathlib import Path

import psycopg2
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.common.windows import Cadence
from bid_assets.simulation.simulate import Marketplace
from bid_assets.simulation.truth import TRUTH_FILE, read_truth
from bid_assets.simulation.write import DatabaseNotEmptyError, write
from bid_assets_tests.simulation.markets import market

TABLES = {"profiles": "profiles", "jobs": "jobs", "bids": "bids", "bid_outcomes": "outcomes"}


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg2.connect(url, options="-c timezone=UTC") as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def in_database(url: str, name: str, like: pa.Table) -> pa.Table:
    rows = query(url, f"SELECT {', '.join(like.column_names)} FROM {name} ORDER BY id")
    columns = zip(*rows, strict=True) if rows else [()] * like.num_columns
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, like.schema, strict=True)], schema=like.schema
    )


def read_back(url: str) -> dict[str, pa.Table]:
    with open_snapshot(url, cadence=Cadence.WEEKLY) as snapshot:
        extent = snapshot.extent()
        assert extent is not None
        return snapshot.read(extent)


@pytest.mark.parametrize("corruption_share", [0.0, 0.05])
def test_what_was_written_is_in_the_database(app_db: str, tmp_path: Path, corruption_share: float) -> None:
    made = market(4, 1500, corruption_share=corruption_share)
    write(made, app_db, tmp_path)
    for name, attribute in TABLES.items():
        table: pa.Table = getattr(made, attribute)
        assert in_database(app_db, name, table).equals(table.sort_by("id").combine_chunks())


def test_the_reader_finds_nothing_to_reject_in_a_clean_market(app_db: str, tmp_path: Path) -> None:
    made = market(4, 1500)
    write(made, app_db, tmp_path)
    read = read_back(app_db)
    assert read["rejected_rows"].num_rows == 0
    assert read["raw_bids"].num_rows == made.bids.num_rows
    assert read["raw_bid_outcomes"].num_rows == made.outcomes.num_rows
    assert not read["raw_jobs"]["required_skills"].null_count


def test_the_reader_rejects_every_kind_of_breach_in_a_dirty_market(app_db: str, tmp_path: Path) -> None:
    write(market(4, 1500, corruption_share=0.2), app_db, tmp_path)
    read = read_back(app_db)
    reasons = " ".join(read["rejected_rows"]["reason"].to_pylist())
    for words in ("amount is -100", "amount is Inf", "profile-of-nobody is unknown", "no submission time", "before its bid"):
        assert words in reasons
    assert "bid-of-nobody is unknown" in reasons
    assert 0 < read["rejected_rows"].num_rows < 0.2 * 1500
    assert read["raw_profiles"]["skills"].null_count
    assert pc.any(pc.greater(pc.list_value_length(read["raw_profiles"]["skills"]), 3)).as_py()


def test_the_truth_is_beside_the_database_and_not_in_it(app_db: str, tmp_path: Path) -> None:
    made = market(4, 1500)
    write(made, app_db, tmp_path / "home" / "marketplace")
    assert read_truth(tmp_path / "home" / "marketplace").equals(made.truth)
    columns = query(app_db, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'")
    assert {table for table, _ in columns} == set(TABLES)
    assert not {column for _, column in columns} & {"true_probability", "quality", "effort", "fit", "seriousness"}


def test_a_filled_database_is_refused_and_left_as_it_is(app_db: str, tmp_path: Path) -> None:
    write(market(4, 1500), app_db, tmp_path)
    before = (tmp_path / TRUTH_FILE).read_bytes()
    with pytest.raises(DatabaseNotEmptyError, match=r"table profiles .* --replace"):
        write(market(3, 900), app_db, tmp_path)
    assert query(app_db, "SELECT count(*) FROM bids") == [(1500,)]
    assert (tmp_path / TRUTH_FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [TRUTH_FILE]


def test_a_filled_database_is_replaced_when_told_to(app_db: str, tmp_path: Path) -> None:
    write(market(4, 1500), app_db, tmp_path)
    write(market(3, 900), app_db, tmp_path, replace=True)
    assert query(app_db, "SELECT count(*) FROM bids") == [(900,)]
    assert read_truth(tmp_path).equals(market(3, 900).truth)


def test_a_write_that_breaks_off_leaves_neither_rows_nor_truth(app_db: str, tmp_path: Path) -> None:
    def break_off(stage: str, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(market(4, 1500), app_db, tmp_path, break_off)
    assert query(app_db, "SELECT (SELECT count(*) FROM profiles) + (SELECT count(*) FROM bids)") == [(0,)]
    assert not list(tmp_path.iterdir())


def test_progress_ends_with_all_rows(app_db: str, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    made: Marketplace = market(4, 1500)
    write(made, app_db, tmp_path, lambda stage, done, total: told.append((done, total)))
    rows = sum(getattr(made, attribute).num_rows for attribute in TABLES.values())
    assert told[-1] == (rows, rows)
