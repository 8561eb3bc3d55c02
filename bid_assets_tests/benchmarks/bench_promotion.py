"""How often is a challenger promoted whose true quality is known? With the default rules, on holdouts of several sizes.

Champion and challenger read the same hidden truth through noise; their true ROC AUC is measured on 200,000 bids. A part of the
noise is shared, as models of mostly the same data share theirs; the champion's own is large enough for one truly better
by 0.02.

    python -m bid_assets_tests.benchmarks.bench_promotion --trials 400
"""

from __future__ import annotations

import argparse
from dataclasses import fields

import numpy as np
from rich.table import Table

from bid_assets.cli.output import console
from bid_assets.modelling.promotion.acceptance_rules import PromotionThresholds
from bid_assets.modelling.promotion.champion_challenger import compare, promotion_rules
from bid_assets.settings import Settings
from bid_assets_tests.modelling.scorers import Scorer, sample, scorer, scorer_of_auc

SHARED, OWN = 0.6, 0.8
PROFILES = {1000: 150, 2000: 250, 4000: 350, 8000: 500}
"""Of a holdout of so many bids."""
RULES = PromotionThresholds(**{field.name: Settings.model_fields[field.name].default for field in fields(PromotionThresholds)})


def promoted(champion: Scorer, challenger: Scorer, *, bids: int, profiles: int, trials: int) -> tuple[float, float]:
    """The share of trials in which the challenger keeps every rule, as one of a fresher dataset and as one of the same."""
    count = np.zeros(2)
    for trial in range(trials):
        random = np.random.default_rng([trial, bids])
        drawn = sample(bids, profiles, random)
        scores = drawn.scores(champion, random), drawn.scores(challenger, random)
        slices = {"profile type": np.where(np.arange(bids) % 4 == 0, "agency", "personal").astype(object)}
        compared = compare(drawn.success, *scores, drawn.profile_ids, slices, resamples=200, seed=trial)
        count += [all(rule["passed"] for rule in promotion_rules(compared, RULES, fresher=each)) for each in (True, False)]
    fresher, same = count / trials
    return float(fresher), float(same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--holdouts", type=int, nargs="+", default=[*PROFILES], choices=[*PROFILES], help="bids of a holdout")
    options = parser.parse_args()
    trials = options.trials
    champion = scorer(SHARED, OWN)
    table = Table("holdout", "challenger's true AUC", "promoted, fresher", "promoted, same dataset", title=f"{RULES}")
    for bids, profiles in ((bids, PROFILES[bids]) for bids in options.holdouts):
        for difference in (-0.02, -0.01, 0.0, 0.01, 0.02):
            challenger = scorer_of_auc(SHARED, champion.roc_auc + difference)
            shares = promoted(champion, challenger, bids=bids, profiles=profiles, trials=trials)
            table.add_row(
                f"{bids:,} bids of {profiles} profiles",
                f"{challenger.roc_auc:.4f} (champion {champion.roc_auc:.4f})",
                *(f"{share:.1%}" for share in shares),
            )
    console.print(table)


if __name__ == "__main__":
    main()
