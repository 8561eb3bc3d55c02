"""Hyperparameter search (Optuna, TPE) on the training part of a dataset, by walk-forward folds. Imports Optuna and XGBoost.

The holdout is never used: a setting selected on it could not be evaluated on it any more. A search is kept in a journal
while it runs, so one that was killed goes on; equal seeds give equal trials, wherever it was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.compute as pc
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from bid_assets.common.arrow import FloatArray, microseconds
from bid_assets.modelling.dataset.assemble import labels, rows_in_split
from bid_assets.modelling.evaluation.metrics import log_losses
from bid_assets.modelling.parameters import NotTrainableError, TrainingParameters
from bid_assets.modelling.promotion.champion_challenger import compare
from bid_assets.modelling.training import train

SPACE: Mapping[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(0.02, 0.2, log=True),
    "max_depth": IntDistribution(2, 6),
    "min_child_weight": FloatDistribution(1, 50, log=True),
    "subsample": FloatDistribution(0.4, 1.0),
    "colsample_bytree": FloatDistribution(0.1, 0.8),
    "l2": FloatDistribution(0.5, 100, log=True),
    "max_linear_weight": FloatDistribution(0.0, 0.9),
}
"""What is searched, and between which bounds."""

FOLDS = 3
_FIRST_SHARE = 0.5
"""The first fold learns from so much of the training part; the rest is evaluated fold by fold."""


def search(
    dataset: pa.Table,
    parameters: TrainingParameters,
    journal: Path,
    *,
    trials: int,
    seconds: float | None = None,
    seed: int = 0,
    on_trial: Callable[[int, int, float], None] = lambda done, of, best: None,
) -> dict[str, Any]:
    """The best of `trials` settings, or of those for which there were `seconds`; the first trial is `parameters`
    itself. JSON-able.

    Keys: `best` (parameters by name), `value` (mean log loss over the folds, nats), `default_value` (that of `parameters`),
    `difference` (pooled over the evaluated bids, best minus default: with 95 % interval, and `better_in`), `folds`, `trials`.
    Raises `NotTrainableError`.
    """
    fold_tables = list(folds(dataset))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal))))
    study = optuna.create_study(storage=storage, study_name="search", direction="minimize", load_if_exists=True)
    if not study.trials:
        study.enqueue_trial({name: getattr(parameters, name) for name in SPACE}, skip_if_exists=True)
    until = None if seconds is None else time.monotonic() + seconds
    while (done := len(_finished(study))) < trials and (done == 0 or until is None or time.monotonic() < until):
        study.sampler = optuna.samplers.TPESampler(seed=seed * 1_000_003 + done)  # the same trial, whenever it is made
        trial = study.ask(dict(SPACE))
        study.tell(trial, float(np.mean([fold_loss(fold, _with(parameters, trial.params)) for fold in fold_tables])))
        on_trial(done + 1, trials, study.best_value)
    return _result(study, fold_tables, parameters)


def folds(dataset: pa.Table) -> Iterator[pa.Table]:
    """The training part as datasets of their own, each evaluated on bids that come after those it learns from.

    `split` is `train` for what was submitted and known before the fold's boundary, `holdout` for what was submitted between it
    and the next one. Raises `NotTrainableError` where a fold would have one class only.
    """
    rows = rows_in_split(dataset, "train")
    submitted, known = (microseconds(rows[name]) for name in ("submitted_at", "outcome_timestamp"))
    success = labels(rows)
    bounds = [*np.quantile(submitted, np.linspace(_FIRST_SHARE, 1, FOLDS + 1)[:-1]), np.inf] if len(submitted) else []
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        train_rows, test_rows = (submitted < begin) & (known < begin), (submitted >= begin) & (submitted < end)
        if any(len(np.unique(success[part])) < 2 for part in (train_rows, test_rows)):
            raise NotTrainableError("a fold of the search would have one class only; search on more data")
        chosen = train_rows | test_rows
        split = pa.array(np.where(test_rows[chosen], "holdout", "train"), pa.string())
        fold = rows.filter(pa.array(chosen))
        yield fold.set_column(fold.column_names.index("split"), fold.field("split"), split)
    if not bounds:
        raise NotTrainableError("the dataset has no training part to search on")


def fold_loss(fold: pa.Table, parameters: TrainingParameters) -> float:
    """Mean log loss of a model of the fold on its holdout."""
    success, probability = _evaluate(fold, parameters)
    return float(log_losses(success, probability).mean())


def _evaluate(fold: pa.Table, parameters: TrainingParameters) -> tuple[Any, FloatArray]:
    holdout = rows_in_split(fold, "holdout")
    model = train(fold, replace(parameters, min_labelled_bids=2, min_per_class=1, refit_on_holdout=False))
    return labels(holdout), model.predict(holdout)


def _result(study: optuna.Study, fold_tables: list[pa.Table], parameters: TrainingParameters) -> dict[str, Any]:
    best = _with(parameters, study.best_params)
    holdouts = pa.concat_tables([rows_in_split(fold, "holdout") for fold in fold_tables])
    scores = [np.concatenate([_evaluate(fold, chosen)[1] for fold in fold_tables]) for chosen in (parameters, best)]
    success = labels(holdouts)
    compared = compare(success, scores[0], scores[1], holdouts["profile_id"].to_numpy())["metrics"]["log_loss"]
    finished = _finished(study)
    return {
        "best": {name: getattr(best, name) for name in SPACE},
        "value": study.best_value,
        "default_value": finished[0].value,
        "difference": {name: compared[name] for name in ("difference", "interval", "better_in")},
        "folds": [
            {
                "train_rows": pc.sum(pc.equal(fold["split"], "train")).as_py(),
                "holdout_rows": pc.sum(pc.equal(fold["split"], "holdout")).as_py(),
            }
            for fold in fold_tables
        ],
        "trials": [{"number": n, "value": trial.value, "parameters": trial.params} for n, trial in enumerate(finished)],
    }


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial.state is optuna.trial.TrialState.COMPLETE]


def _with(parameters: TrainingParameters, values: Mapping[str, Any]) -> TrainingParameters:
    return replace(parameters, **values)
