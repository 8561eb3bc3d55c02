from __future__ import annotations

from rich.console import Console

from bid_assets.cli.backtest import METRICS, cutoffs_table, metrics_table
from bid_assets.modelling.backtesting.cutoff import METRICS as BACKTEST_METRICS
from bid_assets.modelling.backtesting.cutoff import mean_over_cutoffs


def test_a_backtest_prints_the_baselines_beside_the_model() -> None:
    result = {
        "cutoff": "2026-09-01",
        "seeds": 3,
        **{name: {"mean": 0.7451, "std": 0.0012} for name in METRICS},
        "baselines": {
            "base_rate": dict.fromkeys(METRICS, 0.5),
            "history_logistic_regression": {**dict.fromkeys(METRICS, 0.6789), "roc_auc": None},
        },
    }
    console = Console(width=100, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(metrics_table(result))
    lines = captured.get().splitlines()
    assert all(word in captured.get() for word in ("base rate", "history logistic regression"))
    [auc] = [line for line in lines if "roc_auc" in line]
    assert [cell.strip() for cell in auc.strip("│").split("│")] == ["roc_auc", "0.7451", "0.0012", "0.5000", "–"]


def test_several_cutoffs_are_a_row_each_and_one_of_means_baselines_beside() -> None:
    results = [
        {
            "cutoff": f"{day}T00:00:00+00:00",
            "seeds": 1,
            "train_rows": 1000,
            "test_rows": 200,
            **{name: {"mean": metric, "std": 0.0} for name in BACKTEST_METRICS},
            "baselines": {"base_rate": {**dict.fromkeys(BACKTEST_METRICS, 0.5), "log_loss": metric}},
        }
        for day, metric in (("2026-08-03", 0.7), ("2026-09-07", 0.8))
    ]
    console = Console(width=140, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(cutoffs_table(results, mean_over_cutoffs(results)))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in captured.get().splitlines() if "│" in line]
    assert rows == [
        ["2026-08-03T00:00", "1,000", "200", *["0.7000"] * len(METRICS), "0.5000, 0.7000"],
        ["2026-09-07T00:00", "1,000", "200", *["0.8000"] * len(METRICS), "0.5000, 0.8000"],
        ["mean", "", "", *["0.7500"] * len(METRICS), "0.5000, 0.7500"],
    ]
