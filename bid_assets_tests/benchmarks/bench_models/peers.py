"""What others would use, fitted to rows that are handed over. Runs in `.venv-bench` and imports nothing of this project.

    python peers.py FOLDER

Reads FOLDER/train.parquet (in order of submission) and FOLDER/test.parquet: `bid_id`, `text`, `profile_id`, `job_id`,
`client_id`, numeric features as `feature:NAME`, and of train rows `success`. Writes FOLDER/probabilities.parquet
(`bid_id` and one column of probabilities of success for each peer, rows as in test); its metadata has `facts`, JSON:
`versions`, and `cpu_seconds` of each peer.

Number of trees by early stopping on the newest fifth of the train rows, then fitted to all of them; all else is the library's
default but a learning rate of 0.1. CatBoost has the ids as categories and the text besides.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

VALIDATION_SHARE = 0.2
PATIENCE = 20
MAX_ROUNDS = 200
LEARNING_RATE = 0.1
THREADS = 1
"""On a busy machine the threads of these libraries wait for one another by spinning: with two, CatBoost took ten times
as long."""
CATEGORIES = ["profile_id", "job_id", "client_id"]

Peer = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray]


def lightgbm(train: pd.DataFrame, success: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    import lightgbm as lgb

    settings = {
        "objective": "binary", "learning_rate": LEARNING_RATE, "num_threads": THREADS, "seed": 0, "deterministic": True,
        "verbosity": -1,
    }  # fmt: skip
    matrix, begin = _features(train), _validation_begin(train)
    fitted = lgb.Dataset(matrix[:begin], success[:begin])
    stop = lgb.early_stopping(PATIENCE, verbose=False)
    early = lgb.train(
        settings, fitted, MAX_ROUNDS, [lgb.Dataset(matrix[begin:], success[begin:], reference=fitted)], callbacks=[stop]
    )
    final = lgb.train(settings, lgb.Dataset(matrix, success), max(early.best_iteration, 1))
    return np.asarray(final.predict(_features(test)))


def xgboost(train: pd.DataFrame, success: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    import xgboost as xgb

    settings = {"objective": "binary:logistic", "eval_metric": "logloss", "eta": LEARNING_RATE, "nthread": THREADS, "seed": 0}
    matrix, begin = _features(train), _validation_begin(train)
    fitted, validation = (xgb.DMatrix(matrix[part], success[part]) for part in (slice(begin), slice(begin, None)))
    early = xgb.train(
        settings, fitted, MAX_ROUNDS, [(validation, "validation")], early_stopping_rounds=PATIENCE, verbose_eval=False
    )
    final = xgb.train(settings, xgb.DMatrix(matrix, success), early.best_iteration + 1)
    return np.asarray(final.predict(xgb.DMatrix(_features(test))))


def catboost(train: pd.DataFrame, success: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    from catboost import CatBoostClassifier, Pool

    settings = {
        "learning_rate": LEARNING_RATE, "has_time": True, "random_seed": 0, "thread_count": THREADS,
        "allow_writing_files": False, "verbose": False,
    }  # fmt: skip

    def pool(rows: pd.DataFrame, label: np.ndarray | None = None) -> Pool:
        named = [*CATEGORIES, "text"]
        frame = pd.concat(
            [rows[named].astype(object).where(rows[named].notna(), ""), pd.DataFrame(_features(rows), rows.index)], axis=1
        )
        frame.columns = frame.columns.astype(str)
        return Pool(frame, label, cat_features=CATEGORIES, text_features=["text"])

    begin = _validation_begin(train)
    early = CatBoostClassifier(iterations=MAX_ROUNDS, **settings)
    validation = pool(train[begin:], success[begin:])
    early.fit(pool(train[:begin], success[:begin]), eval_set=validation, early_stopping_rounds=PATIENCE)
    final = CatBoostClassifier(iterations=early.get_best_iteration() + 1, **settings).fit(pool(train, success))
    return np.asarray(final.predict_proba(pool(test))[:, 1])


def tfidf_logistic_regression(train: pd.DataFrame, success: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), LogisticRegression(max_iter=1000))
    return np.asarray(model.fit(train["text"].fillna(""), success).predict_proba(test["text"].fillna(""))[:, 1])


PEERS: dict[str, Peer] = {
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
    "CatBoost": catboost,
    "TF-IDF logistic regression": tfidf_logistic_regression,
}


def main(folder: Path) -> None:
    train, test = (pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "test"))
    success = train["success"].to_numpy().astype(np.int32)
    columns, seconds = {"bid_id": test["bid_id"]}, {}
    for name, peer in PEERS.items():
        started = time.process_time()
        columns[name] = peer(train, success, test).astype(np.float64)
        seconds[name] = time.process_time() - started
    versions = {name: version(name) for name in ("lightgbm", "xgboost", "catboost", "scikit-learn")}
    answer = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    facts = json.dumps({"versions": versions, "cpu_seconds": seconds})
    pq.write_table(answer.replace_schema_metadata({"facts": facts}), folder / "probabilities.parquet")


def _features(rows: pd.DataFrame) -> np.ndarray:
    return rows[[name for name in rows.columns if name.startswith("feature:")]].to_numpy(np.float32)


def _validation_begin(train: pd.DataFrame) -> int:
    return round(len(train) * (1 - VALIDATION_SHARE))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
