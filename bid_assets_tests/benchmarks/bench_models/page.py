"""The page of results: Markdown from what was measured. No metric is computed here but means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from bid_assets_tests.benchmarks.bench_models.comparison import CONSTANT, METRICS, OURS, RESAMPLES, CutoffResult

HEADINGS = {
    "roc_auc": "ROC AUC",
    "average_precision_rarer": "AP of the rarer class",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
}
COMPARED = ("roc_auc", "log_loss")
MORE_IS_BETTER = {"roc_auc", "average_precision_rarer"}


@dataclass(frozen=True)
class Run:
    """How the metrics came to be."""

    command: str
    finished_at: datetime
    commit: str
    machine: str
    settings: str
    not_run: tuple[str, ...]
    """Whole sentences."""


def page(run: Run, results: Mapping[str, Sequence[CutoffResult]], descriptions: Mapping[str, str]) -> str:
    """The page. `results`: by data set, of every cutoff; `descriptions`: a sentence on each data set."""
    versions = next((each.versions for cutoffs in results.values() for each in cutoffs if each.versions), {})
    peers = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        "# Current results",
        "",
        "This page is written by the command below; do not edit it by hand.",
        "",
        "```",
        run.command,
        "```",
        "",
        f"- **When, what**: {run.finished_at:%Y-%m-%d}, commit {run.commit}.",
        f"- **Where**: {run.machine}. One seed for every model.",
        f"- **Our model**: {run.settings}.",
        "- **Peers** see the same train rows and the same test rows; LightGBM and XGBoost the numbers that our trees see "
        "(without the rating of profiles) and 16 principal components of each embedding, CatBoost these, the bid's text and "
        f"the ids of profile, job and client, TF-IDF logistic regression the bid's text. Their trees stop early on the newest "
        f"fifth of the train rows{f' ({peers})' if peers else ''}.",
        "- **Differences** are ours less the peer's on the same bids, with the 95 % interval of a paired bootstrap by profile "
        f"({RESAMPLES} resamples).",
        "- Every cutoff that was run is shown. The constant is the share of successes among the train rows.",
        *(f"- **Not run**: {sentence}" for sentence in run.not_run),
        "",
        "## Means over cutoffs",
        "",
        *_means(results),
        "",
        *(_better_peers(results, metric) for metric in COMPARED),
    ]
    for name, cutoffs in results.items():
        lines += ["", f"## `{name}`", "", descriptions[name], "", *_cutoffs(cutoffs), "", *_differences(cutoffs)]
    return "\n".join(lines) + "\n"


def _means(results: Mapping[str, Sequence[CutoffResult]]) -> Iterator[str]:
    headings = [HEADINGS[metric] for metric in METRICS]
    yield from _header("data set", "model", *headings, "log loss worse than the constant at", "CPU seconds")
    for name, cutoffs in results.items():
        for model in cutoffs[0].metrics:
            metrics = [_mean([each.metrics[model][metric] for each in cutoffs]) for metric in METRICS]
            worse = sum(_worse_than_constant(each, model) for each in cutoffs)
            count = "" if model == CONSTANT else f"{worse} of {len(cutoffs)}"
            seconds = "" if model == CONSTANT else f"{np.mean([each.cpu_seconds[model] for each in cutoffs]):.1f}"
            yield _row(f"`{name}`", _strong(model, model), *(_strong(model, _metric(each)) for each in metrics), count, seconds)


def _better_peers(results: Mapping[str, Sequence[CutoffResult]], metric: str) -> str:
    """Which peers have a better mean than ours, in words."""
    sign = 1 if metric in MORE_IS_BETTER else -1
    better = []
    for name, cutoffs in results.items():
        for peer in cutoffs[0].differences:
            mean = _mean([each.differences[peer][metric]["difference"] for each in cutoffs])
            if mean is not None and sign * mean <= 0:
                better.append(f"{peer} on `{name}`")
    return f"- Better than our model in mean {HEADINGS[metric]}: {', '.join(better) or 'none'}."


def _cutoffs(cutoffs: Sequence[CutoffResult]) -> Iterator[str]:
    headings = [HEADINGS[metric] for metric in METRICS]
    yield from _header("cutoff", "train rows (successes)", "test rows (successes)", "model", *headings)
    for each in cutoffs:
        sides = (
            f"{each.train_rows:,} ({each.train_label_rate:.1%})",
            f"{each.test_rows:,} ({each.test_label_rate:.1%})",
        )
        for model, metrics in each.metrics.items():
            cells = (_strong(model, _metric(metrics[metric])) for metric in METRICS)
            yield _row(f"{each.cutoff:%Y-%m-%d}", *sides, _strong(model, model), *cells)


def _differences(cutoffs: Sequence[CutoffResult]) -> Iterator[str]:
    """Ours less each peer's, cutoff by cutoff, then how often the interval excludes 0."""
    yield from _header("cutoff", "against", *(f"{HEADINGS[metric]}, difference" for metric in COMPARED))
    for each in cutoffs:
        for peer, compared in each.differences.items():
            cells = (_difference(compared[metric]["difference"], compared[metric]["interval"]) for metric in COMPARED)
            yield _row(f"{each.cutoff:%Y-%m-%d}", peer, *cells)
    for peer in cutoffs[0].differences:
        yield _row("**mean**", f"**{peer}**", *(_summary(cutoffs, peer, metric) for metric in COMPARED))


def _summary(cutoffs: Sequence[CutoffResult], peer: str, metric: str) -> str:
    compared = [each.differences[peer][metric] for each in cutoffs]
    mean = _mean([each["difference"] for each in compared])
    sign = 1 if metric in MORE_IS_BETTER else -1
    ends = [sorted(sign * end for end in each["interval"]) for each in compared if each["interval"]]
    better, worse = sum(low > 0 for low, _ in ends), sum(high < 0 for _, high in ends)
    value = "–" if mean is None else f"**{mean:+.4f}**"
    return f"{value}; interval above or below 0: better at {better}, worse at {worse} of {len(compared)}"


def _worse_than_constant(result: CutoffResult, model: str) -> bool:
    loss, constant = (result.metrics[name]["log_loss"] for name in (model, CONSTANT))
    return loss is not None and constant is not None and loss > constant


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _difference(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:+.4f}" + (f" [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else "")


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _strong(model: str, text: str) -> str:
    return f"**{text}**" if model == OURS else text


def _header(*cells: str) -> tuple[str, str]:
    return _row(*cells), "|" + "---|" * len(cells)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
