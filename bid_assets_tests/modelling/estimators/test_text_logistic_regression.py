"""The words of documents as a component of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from bid_assets.features.family import NAMED_NUMBERS, TOKENS
from bid_assets.modelling import model_file
from bid_assets.modelling.classifier import columns_to_read
from bid_assets.modelling.dataset.assemble import KEY_COLUMNS
from bid_assets.modelling.estimators import column_encoders, text_logistic_regression
from bid_assets.modelling.estimators.text_logistic_regression import TextColumn, TextLogisticRegression
from bid_assets.modelling.evaluation.report import word_summary
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.model_file import content_hash
from bid_assets.modelling.parameters import NotTrainableError
from bid_assets.modelling.training import train
from bid_assets.version_store.content_hash import plain_hash
from bid_assets_tests.modelling.conftest import QUICK


@pytest.fixture(scope="module")
def documents(dataset: pa.Table) -> pa.Table:
    """The dataset with a document of ten words out of two hundred, of which `good` and `bad` go with the outcome."""
    rng = np.random.default_rng(5)
    success = dataset["target_is_success"].to_numpy()
    texts = []
    for won in success:
        held = {f"w{n}" for n in rng.integers(0, 200, 10)}
        held |= {"good"} if rng.random() < (0.5 if won else 0.1) else set()
        held |= {"bad"} if rng.random() < (0.1 if won else 0.5) else set()
        texts.append(None if rng.random() < 0.1 else sorted(held))
    return dataset.append_column("said", pa.array(texts, TOKENS))


@pytest.fixture(scope="module")
def text_model(documents: pa.Table) -> BidSuccessModel:
    return train(documents, QUICK, "an-encoder")


def test_words_that_tell_make_a_better_model(text_model: BidSuccessModel, model: BidSuccessModel, documents: pa.Table) -> None:
    holdout = documents.filter(pc.equal(documents["split"], "holdout"))
    success = holdout["target_is_success"].to_numpy()
    assert roc_auc_score(success, text_model.predict(holdout)) > roc_auc_score(success, model.predict(holdout)) + 0.02
    assert text_model.training["words_weight"] > 0


def test_the_words_that_tell_are_named(text_model: BidSuccessModel) -> None:
    [summary] = word_summary(text_model)
    assert (summary["document"], summary["raising"][0], summary["lowering"][0]) == ("said", "good", "bad")


def test_words_that_tell_nothing_are_left_out(dataset: pa.Table) -> None:
    rng = np.random.default_rng(6)
    texts = [[f"w{n}" for n in sorted(set(rng.integers(0, 50, 10).tolist()))] for _ in range(dataset.num_rows)]
    found = train(dataset.append_column("said", pa.array(texts, TOKENS)), replace(QUICK, embeddings_in_model=False))
    assert found.training["words_weight"] <= 0.1
    assert ("said" in found.feature_names) == (found.training["words_weight"] > 0)


def test_the_trees_do_not_see_them(text_model: BidSuccessModel, model: BidSuccessModel) -> None:
    assert text_model.booster == model.booster


def test_none_is_allowed_and_none_counts(documents: pa.Table, model: BidSuccessModel) -> None:
    none = train(documents, replace(QUICK, max_words_weight=0.0), "an-encoder")
    assert none.feature_names == [name for name in model.feature_names if name not in ("text", "job")]


def test_words_and_embeddings_are_one_model_under_one_penalty(text_model: BidSuccessModel) -> None:
    scores = [each for each in text_model.encoders if isinstance(each, column_encoders.TextLogit)]
    assert [each.column for each in scores] == ["text", "job", "said"]
    market_text = next(each for each in scores if each.column == "text")
    assert isinstance(market_text, column_encoders.EmbeddingLogit)
    assert np.abs(market_text.weights).argmax() == 3  # the entry of the embedding that decides


def test_a_model_names_the_encoder_only_if_it_reads_embeddings(text_model: BidSuccessModel, documents: pa.Table) -> None:
    assert (text_model.reads_embeddings, text_model.encoder_fingerprint) == (True, "an-encoder")
    words_alone = train(documents, replace(QUICK, embeddings_in_model=False), "an-encoder")
    assert words_alone.text_columns == {"said"}
    assert (words_alone.reads_embeddings, words_alone.encoder_fingerprint) == (False, None)


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({}, set()),
        ({"embeddings_in_model": False}, {"text", "job"}),
        ({"embeddings_in_model": False, "excluded_features": "said"}, {"text", "job", "said"}),
    ],
)
def test_the_columns_that_training_reads_are_all_that_it_needs(
    documents: pa.Table, changes: dict[str, Any], left_out: set[str]
) -> None:
    parameters = replace(QUICK, max_rounds=5, refit_on_holdout=True, **changes)
    columns = columns_to_read(documents.schema, parameters)
    assert set(documents.column_names) - set(columns) == left_out
    assert content_hash(train(documents.select(columns), parameters)) == content_hash(train(documents, parameters))


def test_property_a_row_alone_is_scored_as_in_its_table(text_model: BidSuccessModel, documents: pa.Table) -> None:
    rows = documents.select(text_model.feature_schema.names).slice(0, 300)
    whole = column_encoders.encode(rows, text_model.encoders)
    alone = np.concatenate([text_model.encode_rows([row]) for row in rows.to_pylist()])
    assert np.array_equal(whole, alone, equal_nan=True)
    assert np.array_equal(
        text_model.predict_matrix(whole), np.concatenate([text_model.predict_matrix(row[None]) for row in alone])
    )


def test_a_document_that_is_missing_adds_nothing(text_model: BidSuccessModel, documents: pa.Table) -> None:
    rows = documents.filter(pc.is_null(documents["said"])).slice(0, 20)
    names, parts = text_model.contributions(rows)
    assert (parts[:, names.index("said")] == 0).all()


def test_what_words_add_is_0_on_average(text_model: BidSuccessModel, documents: pa.Table) -> None:
    train_rows = documents.filter(pc.equal(documents["split"], "train"))
    said = column_encoders.encode(train_rows, text_model.encoders)[:, -1]
    assert np.nanmean(said) == pytest.approx(0, abs=1e-6)


def test_contributions_add_up_with_words(text_model: BidSuccessModel, documents: pa.Table) -> None:
    rows = documents.slice(0, 50)
    _, parts = text_model.contributions(rows)
    expected = text_model.calibration.slope * text_model.log_odds(rows) + text_model.calibration.intercept
    assert parts.sum(axis=1) == pytest.approx(expected, abs=1e-4)


def test_the_same_rows_give_the_same_words(text_model: BidSuccessModel, documents: pa.Table) -> None:
    assert content_hash(train(documents, QUICK, "an-encoder")) == content_hash(text_model)


def test_other_words_make_another_model(text_model: BidSuccessModel) -> None:
    score = text_model.encoders[-1]
    assert isinstance(score, column_encoders.TokenLogit)
    other = replace(text_model, encoders=(*text_model.encoders[:-1], replace(score, tokens=("x", *score.tokens[1:]))))
    assert content_hash(other) != content_hash(text_model)


def test_a_model_refit_on_the_holdout_weighs_words_alike(documents: pa.Table, text_model: BidSuccessModel) -> None:
    refit_model = train(documents, replace(QUICK, refit_on_holdout=True), "an-encoder")
    assert refit_model.training["words_weight"] == text_model.training["words_weight"]
    assert [score["raising"][0] for score in word_summary(refit_model)] == ["good"]


def test_words_alone_make_no_model(documents: pa.Table) -> None:
    alone = documents.select([*(name for name in KEY_COLUMNS if name in documents.column_names), "said"])
    with pytest.raises(NotTrainableError, match="no feature column but texts"):
        train(alone, QUICK)


def fit_on(bids: list[tuple[list[str], str]], **parameters: int) -> tuple[column_encoders.TextLogit, ...]:
    """What is learnt of bids, each with its words and its profile; every second one succeeds."""
    said, profiles = zip(*bids, strict=True)
    return fit_texts(pa.chunked_array([pa.array(said, TOKENS)]), codes(profiles), np.arange(len(bids)) % 2 == 0, **parameters)


def fit_texts(
    values: pa.ChunkedArray, profile: np.ndarray, success: np.ndarray, **parameters: int
) -> tuple[column_encoders.TextLogit, ...]:
    text = TextColumn.from_arrow("said", values, profile)
    return TextLogisticRegression(**parameters).fit([text], success).compile(1.0)


def codes(profiles: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(profiles), return_inverse=True)[1]


def test_what_a_single_profile_writes_such_as_its_name_is_not_learnt_however_often() -> None:
    bids = [(["ada", "hello"] if n % 4 == 0 else ["hello", "work"] if n % 4 == 1 else [], f"p{n % 4}") for n in range(80)]
    [score] = fit_on(bids)
    assert isinstance(score, column_encoders.TokenLogit)
    assert score.tokens == ("hello",)


def test_where_no_word_is_shared_there_is_nothing_to_learn() -> None:
    assert fit_on([([f"w{n}"], f"p{n}") for n in range(20)]) == ()


def test_of_very_many_words_the_most_frequent_are_learnt() -> None:
    bids = [(["all"] + ["half"] * (n % 2) + ["few"] * (n % 10 == 0), f"p{n}") for n in range(60)]
    [score] = fit_on(bids, max_tokens=2)
    assert isinstance(score, column_encoders.TokenLogit)
    assert score.tokens == ("all", "half")


def test_it_is_the_regression_that_scikit_learn_finds_on_tf_idf() -> None:
    """Documents weighted by the logarithm of rows / rows with the word, and brought to length 1."""
    rng = np.random.default_rng(9)
    bids = [(sorted({f"w{n}" for n in rng.integers(0, 30, 6)}), f"p{n % 7}") for n in range(300)]
    [score] = fit_on(bids)
    assert isinstance(score, column_encoders.TokenLogit)
    has = np.array([[word in said for word in score.tokens] for said, _ in bids])
    tfidf = normalize(has * np.log(len(bids) / has.sum(axis=0)))
    regression = LogisticRegression(C=1.0, solver="liblinear", max_iter=300).fit(tfidf, np.arange(300) % 2 == 0)
    found = score.encode(pa.array([said for said, _ in bids], TOKENS))[:, 0]
    expected = tfidf @ regression.coef_[0]
    np.testing.assert_allclose(found, expected - expected.mean(), atol=1e-5)


@pytest.mark.parametrize("kind", ["words", "embeddings"])
def test_property_a_regression_on_some_rows_is_that_of_a_table_of_these_rows(documents: pa.Table, kind: str) -> None:
    column = documents["said" if kind == "words" else "text"]
    success, rows = documents["target_is_success"].to_numpy(), np.arange(100, 700, 2)
    profile = codes(documents["profile_id"].to_pylist())
    whole = TextColumn.from_arrow("said", column, profile)
    [of_some] = TextLogisticRegression().fit([whole[rows]], success[rows]).compile(1.0)
    [of_table] = fit_texts(column.take(pa.array(rows)), codes(profile[rows].tolist()), success[rows])
    assert plain_hash(model_file.plain_part(of_some)) == plain_hash(model_file.plain_part(of_table))


@pytest.mark.parametrize("chunk_rows", [1, 7, 1 << 16])
def test_property_tokens_are_read_alike_in_pieces_of_any_size(chunk_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_logistic_regression, "CHUNK_ROWS", chunk_rows)
    said = pa.chunked_array([[["b", "a"], None], [[], ["c", None, "a"], ["a"]]], TOKENS)
    text = TextColumn.from_arrow("said", said, np.arange(5))
    assert text.present.tolist() == [True, False, True, True, True]
    assert text.tokens == pa.array(["a", "b", "c"])
    assert text.values.toarray().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 0]]


def test_a_token_that_stands_twice_in_a_document_scores_as_it_was_learnt() -> None:
    said = pa.chunked_array([pa.array([["a", "a", "b"], ["a", "c"], ["b"], ["c", "b", "b"]] * 20, TOKENS)])
    text, success = TextColumn.from_arrow("said", said, np.arange(80)), np.arange(80) % 4 < 2
    regression = TextLogisticRegression().fit([text], success)
    [logit] = regression.compile(1.0)
    np.testing.assert_allclose(logit.encode(said.combine_chunks())[:, 0], regression.decision_function([text]), atol=1e-6)


def test_a_rating_among_the_external_signals_is_a_number_and_a_higher_one_is_better(dataset: pa.Table) -> None:
    rng = np.random.default_rng(8)
    success = dataset["target_is_success"].to_numpy()
    ratings = np.clip(np.where(success, 4.2, 2.8) + rng.normal(0, 0.8, len(success)), 1, 5).round(2)
    values = pa.array([[{"name": "rating", "value": rating}] for rating in ratings], NAMED_NUMBERS)
    found = train(dataset.append_column("external_numbers", values), QUICK, "an-encoder")
    assert "external_numbers.rating" in found.feature_names
    row = dataset.slice(0, 1).to_pylist()[0]
    at = {r: found.encode_rows([{**row, "external_numbers": [{"name": "rating", "value": r}]}]) for r in (1.23, 2.2, 4.8, 4.97)}
    worst, bad, good, best = (float(found.predict_matrix(matrix)[0]) for matrix in at.values())
    assert max(worst, bad) + 0.2 < min(good, best)
