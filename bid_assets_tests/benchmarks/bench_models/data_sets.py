"""What models are compared on: two real data sets and two simulated markets, each with its cutoffs. No model here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from bid_assets.app_db.contract import RAW_BID_OUTCOMES, RAW_BIDS, RAW_JOBS, RAW_PROFILES, TEXT, TEXTS
from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.features.family import Encoder, FeatureFamily
from bid_assets.features.registry import families
from bid_assets.simulation.options import MarketplaceOptions
from bid_assets.simulation.simulate import simulate
from bid_assets_tests.benchmarks.raw_tables import raw_tables

MARKET_END = datetime(2026, 9, 7, tzinfo=UTC)
WEEK = timedelta(weeks=1)


@dataclass(frozen=True)
class Period:
    """A cutoff, and the moment from which bids are left out (None: all later bids are test bids)."""

    cutoff: datetime
    end: datetime | None = None


@dataclass(frozen=True, eq=False)
class DataSet:
    """Raw tables, and the periods over which models are evaluated."""

    name: str
    description: str
    raw: Mapping[str, pa.Table]
    periods: tuple[Period, ...]

    def features(self, encoder: Encoder | None) -> list[tuple[FeatureFamily, pa.Table]]:
        """The rows of every family for all bids; without an encoder those that need none."""
        first, last = pc.min_max(self.raw["raw_bids"]["submitted_at"]).as_py().values()
        span = TimeRange(Cadence.WEEKLY.floor(first), Cadence.WEEKLY.floor(last) + WEEK)
        chosen = [family for family in families() if encoder is not None or not family.needs_encoder]
        return [(family, family.compute_table(self.raw, span, encoder)) for family in chosen]


def real_data_set(folder: Path, description: str, cutoffs: tuple[str, ...]) -> DataSet:
    """A data set from four gzip-compressed CSV files in the application's table contract; every later bid is a test bid."""
    jobs, profiles = (
        _read(folder / f"{name}.csv.gz", schema) for name, schema in (("jobs", RAW_JOBS), ("profiles", RAW_PROFILES))
    )
    bids, outcomes = _read(folder / "bids.csv.gz", RAW_BIDS), _read(folder / "bid_outcomes.csv.gz", RAW_BID_OUTCOMES)
    periods = tuple(Period(datetime.fromisoformat(day).replace(tzinfo=UTC)) for day in cutoffs)
    return DataSet(folder.name, description, raw_tables(bids, outcomes, jobs, profiles), periods)


def market(
    name: str,
    description: str,
    *,
    weeks: int,
    bids: int,
    seed: int,
    cutoff_weeks: tuple[int, ...],
    ahead: int,
    change: int | None,
) -> DataSet:
    """A simulated market. Cutoffs at the start of these weeks; the `ahead` weeks after each are the test."""
    options = MarketplaceOptions(weeks=weeks, bids=bids, seed=seed, end=MARKET_END, corruption_share=0.0, change_week=change)
    simulation = simulate(options, lambda *_: None)
    columns = RAW_BID_OUTCOMES.names
    outcomes = pa.concat_tables([simulation.outcomes.select(columns), simulation.later_outcomes.select(columns)])
    raw = raw_tables(simulation.bids, outcomes, simulation.jobs, simulation.profiles)
    starts = [options.start + week * WEEK for week in cutoff_weeks]
    return DataSet(name, description, raw, tuple(Period(start, start + ahead * WEEK) for start in starts))


def data_sets(shared: Path) -> dict[str, Callable[[], DataSet]]:
    """Every data set by name, to be made when its turn comes. `shared`: the folder of the real ones."""
    return {
        "gsoc_pulls": lambda: real_data_set(
            shared / "gsoc_pulls",
            "Real pull requests of Google Summer of Code, 2014 to 2024; failures are rarer.",
            ("2020-08-24", "2021-01-04", "2021-05-31", "2021-08-23", "2022-01-03", "2022-08-26"),
        ),
        "catalyst_proposals": lambda: real_data_set(
            shared / "catalyst_proposals",
            "Real proposals to Project Catalyst, 2020 to 2025; successes are rarer, and their share falls.",
            ("2021-11-15", "2022-06-01", "2023-06-01", "2023-11-01", "2024-05-01", "2024-08-15", "2025-03-01"),
        ),
        "market": lambda: market(
            "market",
            "Simulated, 26 weeks, 8,000 bids; the four weeks after each cutoff are the test, by how bids end in truth.",
            weeks=26,
            bids=8_000,
            seed=7,
            cutoff_weeks=(16, 21),
            ahead=4,
            change=None,
        ),
        "change_of_regime": lambda: market(
            "change_of_regime",
            "Simulated, 50 weeks, 12,000 bids; clients care about other things from week 26 on. Cutoffs 6, 12 and 18 weeks "
            "later; the six weeks after each are the test, by how bids end in truth.",
            weeks=50,
            bids=12_000,
            seed=101,
            cutoff_weeks=(32, 38, 44),
            ahead=6,
            change=26,
        ),
    }


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """A CSV file with the columns of `schema`: lists as JSON text, and null what the file does not have."""
    types = {field.name: TEXT if field.type == TEXTS else field.type for field in schema if field.name != "window"}
    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, include_columns=list(types), include_missing_columns=True
        ),
    )
    return table.set_column(0, "id", table["id"].cast(TEXT)) if "id" in table.column_names else table
