"""A model card (Mitchell et al.: Model Cards for Model Reporting, FAT* 2019) as one self-contained HTML page.

What was not measured is shown as absent (a dash), never as zero. Everything inserted is escaped. Reads no store and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bid_assets.modelling.evaluation import plots
from bid_assets.modelling.evaluation.charts import STYLE
from bid_assets.version_store.manifest import Manifest

METRICS = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision, success",
    "average_precision_rarer": "average precision, rarer class",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
BASELINES = {
    "base_rate": "base rate",
    "profile_success_rate": "profile's own rate",
    "history_logistic_regression": "history alone (logistic regression)",
}
_ABSENT = "–"


@dataclass(frozen=True)
class CardData:
    """The data of a model card; reports and decisions are the JSON that the assets store."""

    model: Manifest
    dataset: Manifest
    report: Mapping[str, Any]
    decision: Mapping[str, Any]
    importances: Sequence[Mapping[str, Any]]
    """Rows of `feature_importances`."""
    earlier: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Windows before this one, oldest first, with the metrics of their reports."""


def render_html(card: CardData) -> str:
    """The card as an HTML document without any script or outside resource."""
    report = card.report
    metrics = report["model_metrics"]
    html: str = _template().render(
        card=card,
        metrics=metrics,
        summary=summary(card),
        metric_rows=list(metric_rows(report, card.decision)),
        forecast_rows=list(forecast_rows(report)),
        charts=list(charts(card)),
        confusion=metrics.get("confusion_matrix"),
        slice_rows=list(slice_rows(report.get("slices", ()))),
        dataset_rows=list(dataset_rows(card)),
        inputs=inputs_by_asset(card.dataset),
        limitations=limitations(card),
        comparison=card.decision.get("comparison"),
    )
    return html


def render_markdown(card: CardData) -> str:
    """The summary, for Dagster's UI."""
    rows = [f"| {name} | {value} | {interval} |" for name, value, interval, *_ in metric_rows(card.report, card.decision)]
    sentences = [*summary(card), "", "| metric | value | 95 % interval |", "|---|---|---|", *rows]
    if forecast := list(forecast_rows(card.report)):
        sentences += ["", "| of the bids to come | expected | 95 % interval |", "|---|---|---|"]
        sentences += [f"| {name} | {expected} | {interval} |" for name, _, expected, interval in forecast]
    return "\n".join(sentences)


def summary(card: CardData) -> list[str]:
    """The summary in plain sentences."""
    report, metrics = card.report, card.report["model_metrics"]
    sentences = [f"Decision: {card.decision['outcome']}. {card.decision['reason'].capitalize()}."]
    sentences.append(
        f"The model learned from {report['rows']['train']:,} bids and was evaluated on {metrics['rows']:,} later ones, of "
        f"which {metrics['successes']:,} succeeded."
    )
    if metrics.get("roc_auc") is not None:
        sentences.append(
            f"Of a bid that succeeded and one that did not, it gives the higher probability to the one that succeeded in "
            f"{metrics['roc_auc']:.0%} of all pairs (chance: 50%)."
        )
    if metrics.get("calibration_error") is not None:
        sentences.append(f"Its probabilities are off by {100 * metrics['calibration_error']:.1f} percentage points on average.")
    if metrics.get("precision") is not None:
        sentences.append(
            f"Of the bids that it calls successes (probability {metrics['threshold']:.2f} or more), {metrics['precision']:.0%} "
            f"were; it finds {metrics['recall']:.0%} of all successes."
        )
    if report.get("refitted_rows"):
        sentences.append(
            "What is served was refit on the holdout too, after the evaluation shown here, with the same parameters "
            f"({report['refitted_rows']:,} bids in all); the refit model itself has no evaluation."
        )
    if report.get("note"):
        sentences.append(f"{report['note'].capitalize()}.")
    return sentences


def metric_rows(report: Mapping[str, Any], decision: Mapping[str, Any]) -> Iterable[list[str]]:
    """Rows of the metrics' table: name, value, interval, each baseline's value, the active model's value on unseen bids."""
    champion = (decision.get("comparison") or {}).get("metrics", {})
    for metric, name in METRICS.items():
        interval = report.get("intervals", {}).get(metric)
        baselines = [(report["baselines"].get(key) or {}).get(metric) for key in BASELINES]
        yield [
            name,
            format_number(report["model_metrics"].get(metric)),
            _format_interval(interval),
            *(format_number(value) for value in baselines),
            format_number(champion.get(metric, {}).get("champion")),
        ]


def charts(card: CardData) -> Iterable[tuple[str, str, Markup]]:
    """Title, caption and picture of each chart that the report has data for."""
    report = card.report
    pictures = [
        ("ROC", "The further above the diagonal, the better it ranks.", plots.roc(report)),
        (
            "Precision and recall",
            "Of the bids called successes, how many were; against how many are found.",
            plots.precision_recall(report),
        ),
        ("Reliability", "On the diagonal a predicted 30% succeeds in 30% of the cases.", plots.calibration(report)),
        ("Scores", "The further apart, the better they can be told apart.", plots.scores(report)),
        ("Importances", "Gain of the trees that use a feature.", plots.importances(card.importances, "gain")),
        (
            "What moves it (SHAP)",
            "Mean |SHAP| in log-odds; ↑ more of it raises the probability, ↓ lowers it, ~ neither in a line.",
            plots.shap(report),
        ),
    ]
    history = [*card.earlier, (card.model.partition, report["model_metrics"])]
    for metric in ("roc_auc", "log_loss", "calibration_error"):
        values = [(window, metrics.get(metric)) for window, metrics in history]
        picture = plots.metric_over_windows(METRICS[metric], values)
        pictures.append(
            (f"{METRICS[metric]} over the last windows", "Of each window's own model, on its own holdout.", picture)
        )
    return ((title, caption, picture) for title, caption, picture in pictures if picture is not None)


def forecast_rows(report: Mapping[str, Any]) -> Iterable[list[str]]:
    """Rows of the performance forecast: name, value on the holdout, expected value, interval. None without a forecast."""
    forecast, metrics = report.get("performance_forecast"), report["model_metrics"]
    if not forecast:
        return
    names = {"success_rate": "share of successes", **{name: label for name, label in METRICS.items() if name in forecast}}
    for name, label in names.items():
        interval = forecast[name]["interval"]
        on_holdout = report["holdout_label_rate"] if name == "success_rate" else metrics.get(name)
        yield [
            label,
            format_number(on_holdout),
            format_number(forecast[name]["expected"]),
            _format_interval(interval),
        ]


def slice_rows(slices: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Rows of the table of slices, as text."""
    for slice_metrics in slices:
        interval = (slice_metrics.get("intervals") or {}).get("log_loss")
        yield {
            "slice": slice_metrics["slice"],
            "value": slice_metrics["value"],
            "rows": f"{slice_metrics['rows']:,}",
            "profiles": f"{slice_metrics['profiles']:,}",
            "successes": f"{slice_metrics['successes']:,}",
            "roc_auc": format_number(slice_metrics.get("roc_auc")),
            "log_loss": format_number(slice_metrics.get("log_loss")),
            "interval": _ABSENT if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
            "calibration_error": format_number(slice_metrics.get("calibration_error")),
            "too_small": slice_metrics["too_small"],
        }


def dataset_rows(card: CardData) -> Iterable[tuple[str, str]]:
    """What the model learned from, as pairs of words."""
    info, rows = card.dataset.info, card.report["rows"]
    yield "bids in the look-back", format_number(info.get("bids"))
    yield "with a known outcome", format_number(info.get("labelled"))
    yield "undecided at the cutoff, left out", format_number(info.get("undecided"))
    yield "of these old enough to be decided", format_number(info.get("undecided_mature"))
    yield "rows set aside because they break the contract", format_number(info.get("rejected_rows"))
    for name, count in rows.items():
        yield f"{_SPLIT_WORDS.get(name, name)}", f"{count:,}"
    yield "label maturity", describe_maturity(info)
    yield "share of successes among the labelled", _format_percent(info.get("label_rate"))
    yield "in the training part", _format_percent(card.report.get("train_label_rate"))
    yield "in the holdout", _format_percent(card.report.get("holdout_label_rate"))
    yield "submitted", f"{_format_time(info.get('first_submitted'))} to {_format_time(info.get('last_submitted'))}"
    yield "holdout", f"{_format_time(card.report.get('holdout_from'))} to {_format_time(card.report.get('holdout_until'))}"
    yield "cutoff", _format_time(info.get("cutoff") or card.dataset.cutoff)


_SPLIT_WORDS = {
    "train": "training rows",
    "embargo": "rows of the embargo: their outcome became known after the holdout began",
    "holdout": "rows of the holdout",
    "immature": "rows left out by the label maturity",
}


def inputs_by_asset(dataset: Manifest) -> list[tuple[str, int, str, str]]:
    """What the dataset was made from: asset, number of versions, first and last window."""
    windows_by_asset: dict[str, list[str]] = {}
    for ref in dataset.inputs:
        windows_by_asset.setdefault(ref.asset, []).append(ref.partition)
    return [(asset, len(keys), min(keys), max(keys)) for asset, keys in sorted(windows_by_asset.items())]


def limitations(card: CardData) -> list[str]:
    """Limitations of use, from the report and the dataset."""
    small = [
        f"{slice_metrics['slice']} {slice_metrics['value']}"
        for slice_metrics in card.report.get("slices", ())
        if slice_metrics["too_small"]
    ]
    sentences = [
        "It knows bids that were made. Of jobs on which nobody of these profiles would bid, it has seen no outcome.",
        f"Successes become known sooner than failures; bids younger than the label maturity are not evaluated "
        f"({describe_maturity(card.dataset.info)}). What is true of the "
        "newest bids is therefore known late.",
        "A probability is about bids like those of the look-back; after a change of the market the model needs retraining.",
        "It says what goes together with success, not what causes it: raising an amount because of it is an experiment.",
    ]
    if card.report.get("words"):
        sentences.append(
            "Words that at least two profiles use may count, names of others among them too; the table of words shows "
            "those that count most."
        )
    if card.model.info.get("rated_profiles"):
        sentences.append(
            "It knows the profiles of its look-back by their ids: the outcomes of each, beside what was to be expected, are "
            "a number in it."
        )
    if small:
        sentences.append(f"Too few bids to say how good it is for: {', '.join(small)}.")
    return sentences


def describe_maturity(info: Mapping[str, Any]) -> str:
    """The label maturity of a dataset in words; one made before it could be learnt does not say where it comes from."""
    if info.get("label_maturity_days") is None:
        return _ABSENT
    origin = info.get("label_maturity_origin")
    return f"{info['label_maturity_days']:g} days" + (f", {origin}" if origin else "")


def format_number(value: Any) -> str:
    """A number as text; a dash where there is none."""
    if value is None:
        return _ABSENT
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)


def _format_interval(interval: Sequence[float] | None) -> str:
    return _ABSENT if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _format_percent(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.1%}"


def _format_time(moment: Any) -> str:
    return _ABSENT if moment is None else str(moment)[:16].replace("T", " ")


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("bid_assets.model_card", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = format_number
    environment.globals["metric_names"] = METRICS
    environment.globals["chart_style"] = Markup(STYLE)
    environment.globals["baselines"] = list(BASELINES.values())
    return environment.get_template("page.html")
