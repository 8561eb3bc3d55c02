"""The tables that we make are the tables that we read."""

from __future__ import annotations

from bid_assets.app_db.connections import engine
from bid_assets.app_db.contract import STREAMS
from bid_assets.app_db.schema import METADATA, create_tables
from bid_assets_tests.app_db.database import MONDAY, bid, insert, read, standard_tables


def test_the_tables_have_the_columns_that_the_contract_reads() -> None:
    for table in METADATA.sorted_tables:
        fields = [name for name in STREAMS[f"raw_{table.name}"].names if name != "window"]
        assert list(table.columns.keys()) == fields


def test_creating_tables_again_leaves_their_rows_alone(app_db: str) -> None:
    standard_tables(app_db)
    insert(app_db, "bids", [bid("b1", MONDAY)])
    create_tables(engine(app_db))
    assert read(app_db)["raw_bids"]["id"].to_pylist() == ["b1"]
