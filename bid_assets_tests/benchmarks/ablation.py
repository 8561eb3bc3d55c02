"""What each part of the method is worth: the same backtests with one thing changed at a time, over the store of
BID_ASSETS_HOME.

Everything from `--end` on is cut away first, bids and outcomes, as if the present were there; a test bid was submitted at
least `--old` days before it, so that failures have had time to become known.

    BID_ASSETS_HOME=gsoc BID_ASSETS_LOOKBACK_WINDOWS=139 python -m bid_assets_tests.benchmarks.ablation \\
        --cutoffs 2020-08-24 2021-01-04 2021-05-31 2021-08-23 2022-01-03 --end 2022-08-26
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from bid_assets.app_db.contract import TIME
from bid_assets.cli.backtest import read_tables
from bid_assets.cli.output import console
from bid_assets.features.registry import families
from bid_assets.modelling.backtesting.cutoff import backtest
from bid_assets.orchestration.assets.dataset import label_rules
from bid_assets.orchestration.assets.model import training_parameters
from bid_assets.orchestration.lookback import lookback_before
from bid_assets.settings import Settings, get_settings
from bid_assets.version_store.store_metadata import open_store

METRICS = ("roc_auc", "average_precision_rarer", "log_loss", "brier", "calibration_error")


@dataclass(frozen=True)
class Variant:
    """One change of the method: settings by name, training parameters that are no settings, families left out."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


def variants() -> Iterator[Variant]:
    """The defaults, then each part left out, then each setting otherwise."""
    yield Variant("defaults")
    for family in families():
        yield Variant(f"without {family.name}", without=(family.name,))
    for column in ("profile_rating", "bid_words", "job_words", "external_signals", "external_numbers"):
        yield Variant(f"without {column}", settings={"excluded_features": f"month,{column}"})
    yield Variant("history alone", without=tuple(f.name for f in families() if not f.is_profile_history))
    yield Variant("without the linear part", parameters={"max_linear_weight": 0.0})
    yield Variant("sigmoid where it wins", settings={"calibration": "sigmoid"})
    yield Variant("with embeddings", settings={"embeddings_in_model": True})
    yield Variant("month not excluded", settings={"excluded_features": "job_words"})
    for days in (0, 30, 90):
        yield Variant(f"maturity {days} days", settings={"label_maturity_days": days})
    for days in (14, 30, 90):
        changed = {"label_maturity_days": days, "train_on_mature_only": True}
        yield Variant(f"maturity {days} days, training too", settings=changed)
    for days in (30, 90, 180):
        yield Variant(f"undecided for {days} days is a failure", settings={"undecided_as_failure_days": days})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutoffs", nargs="+", type=_day, required=True)
    parser.add_argument("--end", type=_day, required=True)
    parser.add_argument("--old", type=int, default=90)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="words, one of which a variant's name must hold")
    asked = parser.parse_args()
    tables, _, fingerprint = read_tables(get_settings())
    tables = _before(tables, asked.end, asked.end - timedelta(days=asked.old))
    console.print(f"{tables['raw_bids'].num_rows:,} bids; means over {len(asked.cutoffs)} cutoffs, {asked.seeds} seed(s) each")
    table = Table("variant", *METRICS)
    for variant in variants():
        if asked.only and not any(word in variant.name for word in asked.only):
            continue
        found = [_evaluated(variant, tables, cutoff, asked.seeds, fingerprint) for cutoff in asked.cutoffs]
        means = [float(np.mean([metrics[name]["mean"] for metrics in found])) for name in METRICS]
        table.add_row(variant.name, *(f"{mean:.4f}" for mean in means))
        print(variant.name, *(f"{mean:.4f}" for mean in means), sep="\t", flush=True)
    console.print(table)


def _evaluated(
    variant: Variant, tables: Mapping[str, pa.Table], cutoff: datetime, seeds: int, fingerprint: str | None
) -> dict[str, Any]:
    settings = Settings(**{**get_settings().model_dump(), **variant.settings})
    return backtest(
        tables["raw_bids"],
        tables["raw_bid_outcomes"],
        [
            (family, tables[family.name])
            for family in families()
            if family.name in tables and family.name not in variant.without
        ],
        cutoff=cutoff,
        lookback=lookback_before(settings, open_store(settings), cutoff),
        seeds=seeds,
        parameters=training_parameters(settings, **variant.parameters),
        cadence=settings.cadence,
        rules=label_rules(settings),
        encoder_fingerprint=fingerprint,
    )


def _before(tables: Mapping[str, pa.Table], known: datetime, submitted: datetime) -> dict[str, pa.Table]:
    """What one would have on the day `known`, of bids submitted before `submitted`."""
    cut = dict(tables)
    for name, column, moment in (("raw_bids", "submitted_at", submitted), ("raw_bid_outcomes", "outcome_timestamp", known)):
        cut[name] = tables[name].filter(pc.less(tables[name][column], pa.scalar(moment, TIME)))
    return cut


def _day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


if __name__ == "__main__":
    main()
