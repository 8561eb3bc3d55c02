from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bid_assets.simulation.truth import TRUTH_FILE, best_possible, options_of, read_truth, write_truth
from bid_assets_tests.simulation.markets import market


def on_all_bids() -> dict[str, float | None]:
    truth = market().truth
    return best_possible(truth, truth["bid_id"], truth["is_success"])


def features_and_labels() -> tuple[pd.DataFrame, pd.Series]:
    """What anybody could compute from the tables without looking at texts, in the order of submission."""
    made = market()
    bids, jobs, profiles = (table.to_pandas() for table in (made.bids, made.jobs, made.profiles))
    frame = bids.merge(jobs.add_prefix("job_"), on="job_id").merge(profiles.add_prefix("profile_"), on="profile_id")
    terms = pd.json_normalize(frame.bid_settings_snapshot.map(json.loads).tolist())
    frame["price"] = np.log(frame.amount / terms.budget)
    frame["overlap"] = [
        len(set(json.loads(has)) & set(json.loads(needs))) / max(1, len(json.loads(needs)))
        for has, needs in zip(frame.profile_skills, frame.job_required_skills, strict=True)
    ]
    frame["level"] = frame.profile_experience_level.map({"entry": 0, "intermediate": 1, "expert": 2})
    frame = frame.sort_values("submitted_at", ignore_index=True)
    labels = frame.id.map(made.truth.to_pandas().set_index("bid_id").is_success)
    return frame, labels


def auc(score: object, labels: pd.Series) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, score))


def test_a_quarter_to_a_third_of_the_bids_succeed() -> None:
    assert 0.25 < market().truth.to_pandas().is_success.mean() < 0.35


def test_the_truth_leaves_room_for_chance() -> None:
    best = on_all_bids()["roc_auc"]
    assert best is not None
    assert 0.78 < best < 0.85


def test_labels_agree_with_the_true_probabilities_in_every_bin() -> None:
    truth = market(weeks=26, bids=20_000).truth.to_pandas()
    bins = truth.groupby(pd.qcut(truth.true_probability, 15))
    p, observed, count = bins.true_probability.mean(), bins.is_success.mean(), bins.size()
    assert (abs(observed - p) < 4 * np.sqrt(p * (1 - p) / count)).all()


def test_a_profiles_past_tells_about_its_future() -> None:
    frame, labels = features_and_labels()
    past = np.arange(len(frame)) < 0.7 * len(frame)
    wins = labels[past].groupby(frame.profile_id[past]).agg(["sum", "count"])
    rate = (wins["sum"] + 3) / (wins["count"] + 10)
    assert auc(frame.profile_id[~past].map(rate).fillna(0.3), labels[~past]) > 0.63


def test_hidden_quality_matters_and_drifts_slowly() -> None:
    truth = market(weeks=26, bids=20_000).truth.to_pandas()
    by_profile = truth.groupby(["profile_id", "week"]).quality.first().unstack()
    first, last = by_profile[0], by_profile[25]
    both = first.notna() & last.notna()
    assert 0.6 < np.corrcoef(first[both], last[both])[0, 1] < 0.95
    assert auc(truth.quality, truth.is_success) > 0.6


def test_texts_are_worth_something() -> None:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame, labels = features_and_labels()
    past = np.arange(len(frame)) < 0.7 * len(frame)
    plain = frame[["price", "overlap", "level"]].to_numpy()
    texts = [frame.generated_bid_text.fillna(""), frame.job_description]
    components = [
        TruncatedSVD(16, random_state=0).fit_transform(TfidfVectorizer(sublinear_tf=True, min_df=5).fit_transform(text))
        for text in texts
    ]
    scores = []
    for matrix in (plain, np.hstack([plain, *components])):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(matrix[past], labels[past])
        scores.append(auc(model.predict_proba(matrix[~past])[:, 1], labels[~past]))
    assert scores[1] > scores[0] + 0.02


def test_best_possible_is_what_scikit_learn_says_of_the_true_probabilities() -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    truth = market().truth.slice(100, 500)
    shuffled = truth.take(np.random.default_rng(0).permutation(500))
    frame = shuffled.to_pandas()
    told = best_possible(market().truth, shuffled["bid_id"], shuffled["is_success"])
    assert told["roc_auc"] == pytest.approx(roc_auc_score(frame.is_success, frame.true_probability))
    assert told["log_loss"] == pytest.approx(log_loss(frame.is_success, frame.true_probability))


def test_no_auc_where_all_bids_end_alike() -> None:
    truth = market().truth
    told = best_possible(truth, truth["bid_id"].slice(0, 3), pa.array([True, True, True]))
    assert told["roc_auc"] is None


def test_a_bid_of_another_market_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="1 of 1 bids are not of this simulated market, such as bid-x"):
        best_possible(market().truth, pa.array(["bid-x"]), pa.array([True]))


def test_the_truth_file_also_tells_how_to_make_the_market_again(tmp_path: Path) -> None:
    made = market(3, 900, corruption_share=0.02)
    write_truth(made.truth, made.options, tmp_path / TRUTH_FILE)
    read = read_truth(tmp_path)
    assert read.equals(made.truth)
    assert options_of(read) == made.options
    assert b'"dirt": 0.02' in read.schema.metadata[b"marketplace_options"]  # as in files of earlier releases


def test_a_missing_truth_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="bid-assets marketplace create"):
        read_truth(tmp_path)
