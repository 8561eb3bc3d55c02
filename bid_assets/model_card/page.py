"""A model card (Mitchell et al.: Model Cards for Model Reporting, FAT* 2019) as one self-contained HTML page. Pure.

What was not measured is shown as absent (a dash), never as nought. Everything inserted is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bid_assets.model_card.charts import Axes, Series, bars, fitted, histogram, line_chart
from bid_assets.version_store.manifest import Manifest

FIGURES = {
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
_SHOWN_BARS = 15
_ABSENT = "–"


@dataclass(frozen=True)
class Facts:
    """All that a card tells; the JSON of reports and decisions as the assets store it."""

    model: Manifest
    dataset: Manifest
    report: Mapping[str, Any]
    decision: Mapping[str, Any]
    importances: Sequence[Mapping[str, Any]]
    """Rows of `feature_importances`."""
    earlier: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Windows before this one, oldest first, with the headline figures of their reports."""


def page(facts: Facts) -> str:
    """The card as an HTML document without any script or outside resource."""
    report = facts.report
    figures = report["model_metrics"]
    html: str = _template().render(
        facts=facts,
        figures=figures,
        summary=summary(facts),
        metrics_rows=list(metrics_rows(report, facts.decision)),
        outlook_rows=list(outlook_rows(report)),
        charts=list(charts(facts)),
        confusion=figures.get("confusion_matrix"),
        slice_rows=list(slice_rows(report.get("slices", ()))),
        dataset_rows=list(dataset_rows(facts)),
        inputs=inputs_by_asset(facts.dataset),
        limits=limits(facts),
        comparison=facts.decision.get("comparison"),
    )
    return html


def markdown(facts: Facts) -> str:
    """The summary, for Dagster's UI."""
    rows = [f"| {name} | {value} | {interval} |" for name, value, interval, *_ in metrics_rows(facts.report, facts.decision)]
    told = [*summary(facts), "", "| figure | value | 95 % interval |", "|---|---|---|", *rows]
    if to_come := list(outlook_rows(facts.report)):
        told += ["", "| of the bids to come | expected | 95 % interval |", "|---|---|---|"]
        told += [f"| {name} | {expected} | {interval} |" for name, _, expected, interval in to_come]
    return "\n".join(told)


def summary(facts: Facts) -> list[str]:
    """What matters, in plain sentences."""
    report, figures = facts.report, facts.report["model_metrics"]
    told = [f"Decision: {facts.decision['outcome']}. {facts.decision['reason'].capitalize()}."]
    told.append(
        f"The model learned from {report['rows']['train']:,} bids and was judged on {figures['rows']:,} later ones, of which "
        f"{figures['successes']:,} succeeded."
    )
    if figures.get("roc_auc") is not None:
        told.append(
            f"Of a bid that succeeded and one that did not, it gives the higher probability to the one that succeeded in "
            f"{figures['roc_auc']:.0%} of all pairs (chance: 50%)."
        )
    if figures.get("calibration_error") is not None:
        told.append(f"Its probabilities are off by {100 * figures['calibration_error']:.1f} percentage points on average.")
    if figures.get("precision") is not None:
        told.append(
            f"Of the bids that it calls successes (probability {figures['threshold']:.2f} or more), {figures['precision']:.0%} were; "
            f"it finds {figures['recall']:.0%} of all successes."
        )
    if report.get("refitted_rows"):
        told.append(
            f"What is served is a twin of the model judged here that has learned from the judged bids too ({report['refitted_rows']:,} "
            "in all); nothing has judged that one."
        )
    if report.get("note"):
        told.append(f"{report['note'].capitalize()}.")
    return told


def metrics_rows(report: Mapping[str, Any], decision: Mapping[str, Any]) -> Iterable[list[str]]:
    """Each figure: name, value, interval, then each baseline's, then the active model's on the bids it had not seen."""
    champion = (decision.get("comparison") or {}).get("figures", {})
    for figure, name in FIGURES.items():
        interval = report.get("intervals", {}).get(figure)
        baselines = [(report["baselines"].get(key) or {}).get(figure) for key in BASELINES]
        yield [
            name,
            number(report["model_metrics"].get(figure)),
            _interval(interval),
            *(number(value) for value in baselines),
            number(champion.get(figure, {}).get("champion")),
        ]


def charts(facts: Facts) -> Iterable[tuple[str, str, Markup]]:
    """Title, what to look for, and picture of each chart that there is something to draw of."""
    curves, diagonal = facts.report["curves"], Series("chance", [(0, 0), (1, 1)], dashed=True)
    if roc := curves.get("roc"):
        points = list(zip(roc["false_positive_rate"], roc["true_positive_rate"], strict=True))
        chart = line_chart("ROC", Axes("false positive rate", "true positive rate"), [Series("model", points), diagonal])
        yield "ROC", "The further above the diagonal, the better it ranks.", chart
    if found := curves.get("precision_recall"):
        points = list(zip(found["recall"], found["precision"], strict=True))
        rate = facts.report["holdout_label_rate"]
        base = Series("base rate", [(0, rate), (1, rate)], dashed=True)
        chart = line_chart("Precision and recall", Axes("recall", "precision"), [Series("model", points), base])
        yield "Precision and recall", "Of the bids called successes, how many were; against how many are found.", chart
    if curves.get("calibration"):
        corrected = curves.get("calibration_before") and curves["calibration_before"] != curves["calibration"]
        named = (
            {"before calibration": "calibration_before", "calibrated": "calibration"} if corrected else {"model": "calibration"}
        )
        lines = [
            Series(name, [(b["mean_probability"], b["label_rate"]) for b in curves[key]], dots=True)
            for name, key in reversed(named.items())
        ]
        perfect = Series("perfect", [(0, 0), (1, 1)], dashed=True)
        chart = line_chart("Reliability", Axes("predicted probability", "share that succeeded"), [*lines, perfect])
        yield "Reliability", "On the diagonal a predicted 30% succeeds in 30% of the cases.", chart
    if scores := curves.get("scores"):
        counts = {name: scores[name] for name in ("failures", "successes")}
        yield (
            "Scores",
            "The further apart, the better they can be told apart.",
            histogram("Scores", Axes("predicted probability", "bids"), scores["edges"], counts),
        )
    if facts.importances:
        most = sorted(facts.importances, key=lambda row: -float(row["gain"]))[:_SHOWN_BARS]
        gain = [(str(row["feature"]), float(row["gain"])) for row in most]
        yield "Importances", "Gain of the trees that use a feature.", bars("Importances", gain)
    if shap := facts.report.get("shap"):
        told = [(f"{row['feature']} {_arrow(row.get('direction'))}", row["mean_abs"]) for row in shap[:_SHOWN_BARS]]
        hint = "Mean |SHAP| in log-odds; ↑ more of it raises the probability, ↓ lowers it, ~ neither in a line."
        yield "What moves it (SHAP)", hint, bars("What moves it (SHAP)", told)
    yield from _over_windows(facts)


def _over_windows(facts: Facts) -> Iterable[tuple[str, str, Markup]]:
    figures = facts.report["model_metrics"]
    history = [*facts.earlier, (facts.model.partition, figures)]
    for figure in ("roc_auc", "log_loss", "calibration_error"):
        points = [(n, values[figure]) for n, (_, values) in enumerate(history) if values.get(figure) is not None]
        if len(points) < 2:
            continue
        labels = [window for window, _ in history]
        axes = Axes(
            "window", FIGURES[figure], (0, max(len(history) - 1, 1)), fitted([value for _, value in points]), x_labels=labels
        )
        title = f"{FIGURES[figure]} over the last windows"
        yield title, "Of each window's own model, on its own holdout.", line_chart(title, axes, [Series("", points, dots=True)])


def outlook_rows(report: Mapping[str, Any]) -> Iterable[list[str]]:
    """What to expect of the bids to come: name, on the holdout, expected, interval. None where the report does not say."""
    outlook, figures = report.get("outlook"), report["model_metrics"]
    if not outlook:
        return
    names = {"success_rate": "share of successes", **{name: words for name, words in FIGURES.items() if name in outlook}}
    for name, words in names.items():
        interval = outlook[name]["interval"]
        on_holdout = report["holdout_label_rate"] if name == "success_rate" else figures.get(name)
        yield [
            words,
            number(on_holdout),
            number(outlook[name]["expected"]),
            _interval(interval),
        ]


def slice_rows(slices: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Rows of the table of slices, as text."""
    for part in slices:
        interval = (part.get("intervals") or {}).get("log_loss")
        yield {
            "slice": part["slice"],
            "value": part["value"],
            "rows": f"{part['rows']:,}",
            "profiles": f"{part['profiles']:,}",
            "successes": f"{part['successes']:,}",
            "roc_auc": number(part.get("roc_auc")),
            "log_loss": number(part.get("log_loss")),
            "interval": _ABSENT if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
            "calibration_error": number(part.get("calibration_error")),
            "too_small": part["too_small"],
        }


def dataset_rows(facts: Facts) -> Iterable[tuple[str, str]]:
    """What the model learned from, as pairs of words."""
    info, rows = facts.dataset.info, facts.report["rows"]
    yield "bids in the look-back", number(info.get("bids"))
    yield "with a known outcome", number(info.get("labelled"))
    yield "undecided at the cutoff, left out", number(info.get("undecided"))
    yield "of these old enough to be decided", number(info.get("undecided_mature"))
    yield "rows set aside because they break the contract", number(info.get("rejected_rows"))
    for name, count in rows.items():
        yield f"{_SPLIT_WORDS.get(name, name)}", f"{count:,}"
    yield "label maturity", maturity(info)
    yield "share of successes among the labelled", _percent(info.get("label_rate"))
    yield "in the training part", _percent(facts.report.get("train_label_rate"))
    yield "in the holdout", _percent(facts.report.get("holdout_label_rate"))
    yield "submitted", f"{_day(info.get('first_submitted'))} to {_day(info.get('last_submitted'))}"
    yield "holdout", f"{_day(facts.report.get('holdout_from'))} to {_day(facts.report.get('holdout_until'))}"
    yield "cutoff", _day(info.get("cutoff") or facts.dataset.cutoff)


_SPLIT_WORDS = {
    "train": "rows that trained",
    "embargo": "rows whose outcome became known after the holdout began, used for neither",
    "holdout": "rows that judged",
    "immature": "rows left out by the label maturity",
}


def inputs_by_asset(dataset: Manifest) -> list[tuple[str, int, str, str]]:
    """What the dataset was made from: asset, number of versions, first and last window."""
    by_asset: dict[str, list[str]] = {}
    for ref in dataset.inputs:
        by_asset.setdefault(ref.asset, []).append(ref.partition)
    return [(asset, len(keys), min(keys), max(keys)) for asset, keys in sorted(by_asset.items())]


def limits(facts: Facts) -> list[str]:
    """For what the model should not be used, from what is known of it."""
    small = [f"{part['slice']} {part['value']}" for part in facts.report.get("slices", ()) if part["too_small"]]
    told = [
        "It knows bids that were made. Of jobs on which nobody of these profiles would bid, it has seen no outcome.",
        f"Successes become known sooner than failures; bids younger than the label maturity judge nothing "
        f"({maturity(facts.dataset.info)}). What is true of the "
        "newest bids is therefore known late.",
        "A probability is about bids like those of the look-back; after a change of the market it needs retraining to be right.",
        "It says what goes together with success, not what causes it: raising an amount because of it is an experiment.",
    ]
    if facts.report.get("words"):
        told.append(
            "Words that at least two profiles use may count, names of others among them too; the table of words shows those that count most."
        )
    if facts.model.info.get("rated_profiles"):
        told.append(
            "It knows the profiles of its look-back by their ids: the outcomes of each, beside what was to be expected, are a number in it."
        )
    if small:
        told.append(f"Too few bids to say how good it is for: {', '.join(small)}.")
    return told


def maturity(info: Mapping[str, Any]) -> str:
    """The label maturity of a dataset in words; one made before it could be learnt does not say where it comes from."""
    if info.get("label_maturity_days") is None:
        return _ABSENT
    origin = info.get("label_maturity_origin")
    return f"{info['label_maturity_days']:g} days" + (f", {origin}" if origin else "")


def number(value: Any) -> str:
    """A figure or a count as text; a dash where there is none."""
    if value is None:
        return _ABSENT
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)


def _interval(ends: Sequence[float] | None) -> str:
    return _ABSENT if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _percent(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.1%}"


def _day(moment: Any) -> str:
    return _ABSENT if moment is None else str(moment)[:16].replace("T", " ")


def _arrow(direction: float | None) -> str:
    return "" if direction is None else "↑" if direction > 0.2 else "↓" if direction < -0.2 else "~"


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("bid_assets.model_card", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = number
    environment.globals["figure_names"] = FIGURES
    environment.globals["baselines"] = list(BASELINES.values())
    return environment.get_template("page.html")
