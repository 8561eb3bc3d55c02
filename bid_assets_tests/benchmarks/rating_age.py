"""Is a rating that has grown old worse than none? Log loss and ROC AUC of the bids after each cutoff, by their age
since training.

Three times: with the ratings that the model carries; with the same model where nobody has rated the profile; with a
model that was trained without ratings. Means over the cutoffs of `bench_models`, without texts' embeddings, which the
model does not read.

    python -m bid_assets_tests.benchmarks.rating_age ../shared/data
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from bid_assets.common.arrow import microseconds
from bid_assets.modelling.classifier import TARGET_STATISTIC
from bid_assets.modelling.dataset.assemble import labels
from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.training import train
from bid_assets.orchestration.assets.model import training_parameters
from bid_assets.settings import Settings
from bid_assets_tests.benchmarks.bench_models.comparison import rows_of
from bid_assets_tests.benchmarks.bench_models.data_sets import DataSet, data_sets

WEEKS = (0, 13, 26, 52, 1000)
FEWEST = 30
"""Bids of an age and cutoff; fewer say nothing."""


def main() -> None:
    for name in ("gsoc_pulls", "catalyst_proposals"):
        print_ages(data_sets(Path(sys.argv[1]))[name](), Settings())


def print_ages(data: DataSet, settings: Settings) -> None:
    """A line for each age: the number of cutoffs, and log loss (ROC AUC) each way."""
    rated = training_parameters(settings)
    unrated = training_parameters(settings, excluded_features=f"{rated.excluded_features},{TARGET_STATISTIC}")
    features, scores = data.features(None), defaultdict(list)
    for period in data.periods:
        rows = rows_of(data, features, period, settings)
        model, test, success = train(rows.train, rated), rows.test, labels(rows.test)
        place = test.schema.get_field_index("profile_id")
        nobody = test.set_column(place, test.schema.field(place), pa.repeat(pa.scalar("nobody"), test.num_rows))
        predictions = (model.predict(test), model.predict(nobody), train(rows.train, unrated).predict(test))
        age = (microseconds(test["submitted_at"]) / 1e6 - period.cutoff.timestamp()) / (7 * 86400)
        for first, last in zip(WEEKS, WEEKS[1:], strict=False):
            of_age = (age >= first) & (age < last)
            if of_age.sum() >= FEWEST and len(np.unique(success[of_age])) == 2:
                each_way = [metrics.all_metrics(success[of_age], each[of_age], 0.5, False) for each in predictions]
                scores[first].append([(each["log_loss"], each["roc_auc"]) for each in each_way])
    for first, of_cutoffs in sorted(scores.items()):
        means = np.mean(of_cutoffs, axis=0)
        print(data.name, f"from week {first}", len(of_cutoffs), *(f"{loss:.4f} ({auc:.4f})" for loss, auc in means), sep="\t")


if __name__ == "__main__":
    main()
