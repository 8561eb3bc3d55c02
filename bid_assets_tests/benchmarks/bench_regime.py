"""After a change of regime: how many retrainings until the active model is as good as one of the new regime alone?

A market changes what its clients care about. From then on the loop retrains every `--every` weeks with the default settings and
promotes by the default rules. Each active model is evaluated on the true outcomes of the last six weeks; so is a model that has
learned from bids of the new regime alone, up to these weeks. Settings come from the environment as everywhere. Without
texts: both sides lack them alike, and it takes a minute.

    python -m bid_assets_tests.benchmarks.bench_regime --every 6 --seeds 3
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from sklearn.metrics import roc_auc_score

from bid_assets.app_db.contract import RAW_BID_OUTCOMES
from bid_assets.cli.output import console
from bid_assets.common.windows import Cadence, TimeRange
from bid_assets.features.registry import families
from bid_assets.modelling.dataset.assemble import assemble
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.promotion.acceptance_rules import PromotionThresholds
from bid_assets.modelling.promotion.champion_challenger import compare, promotion_rules
from bid_assets.modelling.training import train
from bid_assets.orchestration.assets.dataset import label_rules
from bid_assets.orchestration.assets.model import training_parameters
from bid_assets.orchestration.lookback import ENOUGH_LABELLED_BIDS, ENOUGH_OF_RARER_CLASS, LEAST_WINDOWS
from bid_assets.settings import Settings
from bid_assets.simulation.options import MarketplaceOptions
from bid_assets.simulation.simulate import simulate
from bid_assets_tests.benchmarks.raw_tables import raw_tables

BEFORE, AFTER, TEST = 26, 18, 6
"""Weeks of the old regime, of the new one, and of the test bids."""
END = datetime(2026, 9, 7, tzinfo=UTC)
WEEK = timedelta(weeks=1)
SETTINGS = Settings()
RULES = PromotionThresholds(**{field.name: getattr(SETTINGS, field.name) for field in fields(PromotionThresholds)})


class World:
    """A market's raw tables and features, and what comes of its bids in truth."""

    def __init__(self, seed: int, weekly_bids: int) -> None:
        weeks = BEFORE + AFTER + TEST
        options = MarketplaceOptions(
            weeks=weeks, bids=weeks * weekly_bids, seed=seed, end=END, corruption_share=0.0, change_week=BEFORE
        )
        market = simulate(options, lambda *_: None)
        self.start, self.raw = options.start, raw_tables(market.bids, market.outcomes, market.jobs, market.profiles)
        span = TimeRange(options.start, options.end)
        self.features = [(f, f.compute_table(self.raw, span, None)) for f in families() if not f.needs_encoder]
        self.truth = market.truth.select(["bid_id", "is_success"])

    def dataset(self, first: datetime, cutoff: datetime, holdout_share: float) -> pa.Table:
        """The dataset of the bids of [first, cutoff), as the loop would make it."""
        return assemble(
            between(self.raw["raw_bids"], first, cutoff),
            self.raw["raw_bid_outcomes"],
            self.features,
            cutoff=cutoff,
            holdout_share=holdout_share,
            cadence=Cadence.WEEKLY,
            rules=label_rules(SETTINGS),
        )

    def lookback(self, cutoff: datetime) -> timedelta:
        """As `lookback` decides it by `auto`: until enough outcomes have become known in its weeks, else everything."""
        outcomes, weeks = self.raw["raw_bid_outcomes"], LEAST_WINDOWS
        while cutoff - weeks * WEEK > self.start:
            known = between(outcomes, cutoff - weeks * WEEK, cutoff, column="outcome_timestamp")["is_success"]
            successes = pc.sum(known).as_py() or 0
            if len(known) >= ENOUGH_LABELLED_BIDS and min(successes, len(known) - successes) >= ENOUGH_OF_RARER_CLASS:
                break
            weeks += 1
        return weeks * WEEK

    def evaluate(self, model: BidSuccessModel) -> float:
        """ROC AUC on the last weeks, by how the bids end in truth."""
        bids = between(self.raw["raw_bids"], END - TEST * WEEK, END)
        rows = assemble(bids, self._ends(), self.features, cutoff=END + WEEK, holdout_share=0, cadence=Cadence.WEEKLY)
        return float(roc_auc_score(np.asarray(rows["target_is_success"]), model.predict(rows)))

    def _ends(self) -> pa.Table:
        ids = self.truth["bid_id"]
        return pa.table(
            [ids, ids, self.truth["is_success"], pa.repeat(END, len(ids)), pa.nulls(len(ids), pa.string())],
            schema=RAW_BID_OUTCOMES,
        )


def between(rows: pa.Table, start: datetime, end: datetime, column: str = "submitted_at") -> pa.Table:
    return rows.filter(pc.and_(pc.greater_equal(rows[column], start), pc.less(rows[column], end)))


def promoted(champion: tuple[BidSuccessModel, pa.Table], challenger: BidSuccessModel, dataset: pa.Table) -> bool:
    """Whether the rules let the challenger take the champion's place, on holdout bids that the champion has not learned
    from."""
    model, learned = champion
    splits = ["train"] if model.holdout_model is None else ["train", "embargo", "holdout"]
    seen = learned.filter(pc.is_in(learned["split"], value_set=pa.array(splits)))["bid_id"]
    holdout = dataset.filter(
        pc.and_(pc.equal(dataset["split"], "holdout"), pc.invert(pc.is_in(dataset["bid_id"], value_set=seen.combine_chunks())))
    )
    success = np.asarray(holdout["target_is_success"], dtype=bool)
    compared = compare(
        success,
        model.predict(holdout),
        (challenger.holdout_model or challenger).predict(holdout),
        holdout["profile_id"].to_numpy(),
    )
    return all(rule["passed"] for rule in promotion_rules(compared, RULES, fresher=True))


def walk(seed: int, every: int, weekly_bids: int) -> dict[str, Any]:
    """Metrics of the active model after each retraining, and of the model of the new regime alone."""
    world = World(seed, weekly_bids)
    change, parameters = world.start + BEFORE * WEEK, training_parameters(SETTINGS)
    active: tuple[BidSuccessModel, pa.Table] | None = None
    found = []
    for retraining in range(AFTER // every + 1):
        cutoff = change + retraining * every * WEEK
        dataset = world.dataset(cutoff - world.lookback(cutoff), cutoff, SETTINGS.holdout_share)
        model = train(dataset, parameters)
        if active is None or promoted(active, model, dataset):
            active = model, dataset
        found.append({"weeks": retraining * every, "active": world.evaluate(active[0]), "promoted": active[0] is model})
    alone = train(world.dataset(change, END - TEST * WEEK, SETTINGS.holdout_share), parameters)
    return {"retrainings": found, "new_regime_alone": world.evaluate(alone)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=6, help="weeks from one retraining to the next")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--weekly-bids", type=int, default=770)
    asked = parser.parse_args()
    table = Table(
        "seed", "retraining", "weeks after the change", "active model's ROC AUC", "below new regime alone by", "promoted"
    )
    for seed in range(101, 101 + asked.seeds):
        found = walk(seed, asked.every, asked.weekly_bids)
        for number, step in enumerate(found["retrainings"]):
            short = found["new_regime_alone"] - step["active"]
            row = [seed, number, step["weeks"], f"{step['active']:.4f}", f"{short:.4f}", step["promoted"]]
            table.add_row(*map(str, row))
            print(*row, sep="\t", flush=True)
    console.print(table)


if __name__ == "__main__":
    main()
