from __future__ import annotations

from rich.console import Console

from bid_assets.commands.backtest import FIGURES, figures_table


def test_a_backtest_prints_the_baselines_beside_the_model() -> None:
    result = {
        "cutoff": "2026-09-01",
        "seeds": 3,
        **{name: {"mean": 0.7451, "std": 0.0012} for name in FIGURES},
        "baselines": {
            "base_rate": dict.fromkeys(FIGURES, 0.5),
            "history_logistic_regression": {**dict.fromkeys(FIGURES, 0.6789), "roc_auc": None},
        },
    }
    console = Console(width=100, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(figures_table(result))
    lines = captured.get().splitlines()
    assert all(word in captured.get() for word in ("base rate", "history logistic regression"))
    [auc] = [line for line in lines if "roc_auc" in line]
    assert [cell.strip() for cell in auc.strip("│").split("│")] == ["roc_auc", "0.7451", "0.0012", "0.5000", "–"]
