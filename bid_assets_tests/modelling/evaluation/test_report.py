from __future__ import annotations

import json
from xml.etree.ElementTree import fromstring

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bid_assets.modelling.dataset.assemble import labels
from bid_assets.modelling.evaluation import plots
from bid_assets.modelling.evaluation.charts import standalone
from bid_assets.modelling.evaluation.explanations import feature_importances
from bid_assets.modelling.evaluation.report import evaluate, profile_rate_baseline
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.promotion.acceptance_rules import AcceptanceThresholds, absolute_rules, summarize
from bid_assets_tests.modelling.test_training import relabelled

LENIENT = AcceptanceThresholds(min_roc_auc=0.6, max_calibration_error=0.2, min_log_loss_gain=0.0)


@pytest.fixture(scope="module")
def report(model: BidSuccessModel, dataset: pa.Table) -> dict:
    return evaluate(model, dataset)


def test_a_report_is_json_without_nan(report: dict) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_metrics_are_of_the_holdout_and_counted(report: dict, dataset: pa.Table) -> None:
    holdout = dataset.filter(pc.equal(dataset["split"], "holdout"))
    metrics = report["model_metrics"]
    assert metrics["rows"] == holdout.num_rows == sum(metrics["confusion_matrix"].values())
    assert metrics["successes"] == pc.sum(holdout["target_is_success"]).as_py()


def test_the_model_is_better_than_history_alone_and_that_is_better_than_the_base_rate(report: dict) -> None:
    base, history, model = (
        *(report["baselines"][name] for name in ("base_rate", "history_logistic_regression")),
        report["model_metrics"],
    )
    assert base["roc_auc"] == 0.5
    assert 0.5 < history["roc_auc"] < model["roc_auc"]
    assert model["log_loss"] < history["log_loss"] < base["log_loss"]


def test_a_dataset_without_history_has_no_history_baseline(dataset: pa.Table, model: BidSuccessModel) -> None:
    stripped = pa.table({name: dataset[name] for name in dataset.column_names})  # without the fields' family
    assert evaluate(model, stripped)["baselines"]["history_logistic_regression"] is None


def test_a_holdout_of_one_class_gives_nulls_and_a_reason(model: BidSuccessModel, dataset: pa.Table) -> None:
    report = evaluate(model, relabelled(dataset, "holdout", success=True))
    assert report["model_metrics"]["roc_auc"] is None
    assert report["model_metrics"]["log_loss"] is not None
    assert report["note"] == "the holdout holds successes only: ROC AUC and average precision need both classes"


def test_an_empty_holdout_gives_nulls_a_reason_and_no_activation(model: BidSuccessModel, dataset: pa.Table) -> None:
    report = evaluate(model, dataset.filter(pc.equal(dataset["split"], "train")))
    assert report["model_metrics"]["brier"] is None
    passed, reason = summarize(absolute_rules(report, LENIENT), report)
    assert not passed
    assert "not computable" in reason
    assert "the holdout is empty" in reason


def test_the_rules_pass_a_good_model_and_lists_every_rule(report: dict) -> None:
    rules = absolute_rules(report, LENIENT)
    assert summarize(rules, report) == (True, f"all 3 rules passed on {report['model_metrics']['rows']} holdout bids")
    assert [set(rule) for rule in rules] == [{"rule", "value", "limit", "passed"}] * 3


@pytest.mark.parametrize(
    ("thresholds", "reason"),
    [
        (AcceptanceThresholds(0.99, 0.2, 0.0), "ROC AUC at least 0.99, but it is 0."),
        (AcceptanceThresholds(0.6, 0.0, 0.0), "calibration error at most 0, but it is 0."),
        (AcceptanceThresholds(0.6, 0.2, 5.0), "log loss below the base rate's by at least 5, but it is 0."),
    ],
)
def test_the_rules_say_which_rule_failed_and_by_what(report: dict, thresholds: AcceptanceThresholds, reason: str) -> None:
    rules = absolute_rules(report, thresholds)
    passed, said = summarize(rules, report)
    assert not passed
    assert said.startswith(reason)
    assert [rule["passed"] for rule in rules].count(False) == 1


def test_importances_name_feature_and_source_and_come_in_order(model: BidSuccessModel, dataset: pa.Table) -> None:
    table = feature_importances(model, dataset)
    assert sorted(table["feature"].to_pylist()) == sorted(model.feature_names)
    assert (np.diff(table["mean_abs_shap"].to_numpy()) <= 0).all()
    assert table["source_column"][0].as_py() in ("rate", "text")
    sources = dict(zip(table["feature"].to_pylist(), table["source_column"].to_pylist(), strict=True))
    assert sources["level=expert"] == "level"
    assert pc.sum(table["weight"]).as_py() > 0


def test_plots_are_small_enough_for_the_event_log(report: dict, model: BidSuccessModel, dataset: pa.Table) -> None:
    bars = plots.importances(feature_importances(model, dataset).to_pylist(), "mean_abs_shap")
    for plot in (plots.roc(report), plots.calibration(report), bars):
        assert plot is not None
        content = standalone(plot)
        assert fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(content) < 20_000


def test_of_a_report_without_metrics_there_are_no_plots(model: BidSuccessModel, dataset: pa.Table) -> None:
    empty = evaluate(model, dataset.filter(pc.equal(dataset["split"], "train")))
    assert (plots.roc(empty), plots.precision_recall(empty), plots.calibration(empty)) == (None, None, None)


def test_a_profile_s_own_rate_is_drawn_to_the_base_rate_where_it_has_few_outcomes(dataset: pa.Table) -> None:
    train, holdout = (dataset.filter(pc.equal(dataset["split"], name)) for name in ("train", "holdout"))
    assert profile_rate_baseline(train, holdout, False) is None, "this dataset has no such columns"
    won, decided = [0, 0, 10, None], [0, 2, 10, None]
    rows = (
        holdout.slice(0, 4).append_column("successes_90d", pa.array(won)).append_column("known_outcomes_90d", pa.array(decided))
    )
    zeros = pa.array([0] * train.num_rows)
    learned = train.append_column("successes_90d", zeros).append_column("known_outcomes_90d", zeros)
    found = profile_rate_baseline(learned, rows, False)
    assert found is not None
    base = labels(train).mean()
    assert found[0] == pytest.approx([base, 5 * base / 7, (10 + 5 * base) / 15, base])


def test_the_shap_summary_says_which_way_a_feature_works(report: dict) -> None:
    shap = {each["feature"]: each for each in report["shap"]}
    assert shap["rate"]["direction"] > 0.5
    assert [each["mean_abs"] for each in report["shap"]] == sorted((each["mean_abs"] for each in report["shap"]), reverse=True)


def test_the_histogram_counts_every_bid_of_the_holdout(report: dict) -> None:
    scores = report["curves"]["scores"]
    assert sum(scores["successes"]) == report["model_metrics"]["successes"]
    assert sum(scores["failures"]) == report["model_metrics"]["failures"]


def test_rows_of_every_split_are_counted(report: dict, dataset: pa.Table) -> None:
    assert sum(report["rows"].values()) == dataset.num_rows
