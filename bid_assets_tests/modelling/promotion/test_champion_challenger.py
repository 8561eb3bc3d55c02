from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bid_assets.modelling.evaluation import metrics
from bid_assets.modelling.evaluation.bootstrap import METRICS
from bid_assets.modelling.promotion.acceptance_rules import PromotionThresholds
from bid_assets.modelling.promotion.champion_challenger import compare, promotion_rules
from bid_assets_tests.benchmarks.bench_promotion import OWN, RULES, SHARED, promoted
from bid_assets_tests.modelling.scorers import Sample, Scorer, sample, scorer, scorer_of_auc

LENIENT = PromotionThresholds(0.0, 0.5, 1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def champion() -> Scorer:
    """One that has much of its noise in common with others: it is that much which pairing takes out."""
    return scorer(SHARED, 0.4)


@pytest.fixture(scope="module")
def bids() -> Sample:
    return sample(2000, 150, np.random.default_rng(0))


def both(bids: Sample, champion: Scorer, challenger: Scorer, **options: object) -> dict:
    random = np.random.default_rng(3)
    scores = bids.scores(champion, random), bids.scores(challenger, random)
    return compare(bids.success, *scores, bids.profile_ids, resamples=200, **options)  # type: ignore[arg-type]


def passed(comparison: dict, rules: PromotionThresholds, *, fresher: bool) -> dict[str, bool]:
    return {rule["rule"]: rule["passed"] for rule in promotion_rules(comparison, rules, fresher=fresher)}


@pytest.mark.parametrize("rarer_is_success", [True, False])
def test_metrics_are_those_of_the_metrics(bids: Sample, champion: Scorer, rarer_is_success: bool) -> None:
    random = np.random.default_rng(3)
    old, new = bids.scores(champion, random), bids.scores(scorer(SHARED, 1.5), random)
    found = compare(bids.success, old, new, bids.profile_ids, rarer_is_success=rarer_is_success, resamples=50)["metrics"]
    assert set(found) == set(METRICS)
    for name in METRICS:
        expected = [
            {
                **metrics.ranking_metrics(bids.success, scores, rarer_is_success),
                **metrics.probability_metrics(bids.success, scores),
            }[name]
            for scores in (old, new)
        ]
        assert [found[name]["champion"], found[name]["challenger"]] == pytest.approx(expected)
        assert found[name]["difference"] == pytest.approx(expected[1] - expected[0])


def test_a_model_is_no_better_than_itself(bids: Sample) -> None:
    scores = np.full(len(bids.success), 0.4)
    found = compare(bids.success, scores, scores, bids.profile_ids, resamples=50)["metrics"]["log_loss"]
    assert (found["difference"], found["interval"], found["better_in"]) == (0.0, [0.0, 0.0], 0.5)


def test_pairing_makes_the_interval_narrower_than_that_of_either_model(bids: Sample, champion: Scorer) -> None:
    from bid_assets.modelling.evaluation.bootstrap import intervals

    found = both(bids, champion, champion)["metrics"]["roc_auc"]
    low, high = found["interval"]
    alone = intervals(bids.success, bids.scores(champion, np.random.default_rng(3)), bids.profile_ids, True, resamples=200)
    assert alone["roc_auc"] is not None
    assert high - low < 0.7 * (alone["roc_auc"][1] - alone["roc_auc"][0])


def test_of_the_same_dataset_only_a_surely_better_model_is_promoted(bids: Sample, champion: Scorer) -> None:
    rules = replace(LENIENT, required_confidence=0.95)
    assert all(passed(both(bids, scorer(SHARED, 1.2), champion), rules, fresher=False).values())
    assert not all(passed(both(bids, champion, champion), rules, fresher=False).values())


def test_a_fresher_model_may_be_worse_by_the_tolerance_and_no_more(bids: Sample, champion: Scorer) -> None:
    comparison = both(bids, champion, scorer(SHARED, 0.8))
    worse = comparison["metrics"]["log_loss"]["difference"]
    assert worse > 0
    assert all(passed(comparison, replace(LENIENT, fresher_tolerance=worse + 1e-6), fresher=True).values())
    assert not all(passed(comparison, replace(LENIENT, fresher_tolerance=worse - 1e-6), fresher=True).values())


def test_a_slice_that_is_surely_much_worse_stops_a_model_that_is_better_on_the_whole(bids: Sample, champion: Scorer) -> None:
    random = np.random.default_rng(3)
    old = bids.scores(scorer(SHARED, 1.5), random)
    agencies = np.arange(len(old)) % 5 == 0
    new = np.where(agencies, 1 - old, bids.scores(scorer(SHARED, 0.0), random))
    slices = {"profile type": np.where(agencies, "agency", "personal").astype(object)}
    found = compare(bids.success, old, new, bids.profile_ids, slices, resamples=200)
    [harmed] = [
        rule for rule in promotion_rules(found, replace(LENIENT, max_slice_harm=0.05), fresher=True) if not rule["passed"]
    ]
    assert harmed["slice"] == "profile type: agency"
    assert harmed["value"] > 0.05


def test_a_small_slice_stops_nothing(bids: Sample, champion: Scorer) -> None:
    scores = bids.scores(champion, np.random.default_rng(3))
    few = np.arange(len(scores)) < 12
    slices = {"profile type": np.where(few, "agency", "personal").astype(object)}
    found = compare(bids.success, scores, np.where(few, 1 - scores, scores), bids.profile_ids, slices, resamples=200)
    assert next(part for part in found["slices"] if part["value"] == "agency")["too_small"]
    assert all(passed(found, replace(LENIENT, max_slice_harm=0.0), fresher=True).values())


def test_no_common_rows_keep_no_rule_and_say_so() -> None:
    nothing = np.empty(0)
    found = compare(nothing.astype(bool), nothing, nothing, nothing.astype(object), {"month": nothing.astype(object)})
    assert found["metrics"]["log_loss"]["difference"] is None
    rules = promotion_rules(found, LENIENT, fresher=True)
    assert [rule["passed"] for rule in rules] == [False, False, True]


def test_a_comparison_is_json(bids: Sample, champion: Scorer) -> None:
    slices = {"profile type": np.where(np.arange(2000) % 5 == 0, "agency", "personal").astype(object)}
    assert json.dumps(both(bids, champion, champion, slices=slices), allow_nan=False)


@pytest.mark.slow
def test_of_truly_worse_challengers_few_are_promoted_and_of_truly_better_ones_most() -> None:
    champion = scorer(SHARED, OWN)
    size = {"bids": 4000, "profiles": 350, "trials": 40}
    worse, better = (promoted(champion, scorer_of_auc(SHARED, champion.roc_auc + step), **size) for step in (-0.02, 0.02))
    assert max(worse) <= 0.05  # as one of a fresher dataset, and as one of the same
    assert min(better) >= 0.8
    assert RULES.fresher_tolerance > 0
