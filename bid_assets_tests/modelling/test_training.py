from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score

from bid_assets.modelling.dataset.assemble import KEY_COLUMNS
from bid_assets.modelling.estimators import blend, gradient_boosting
from bid_assets.modelling.model import BidSuccessModel
from bid_assets.modelling.model_file import content_hash
from bid_assets.modelling.parameters import NotTrainableError, TrainingParameters
from bid_assets.modelling.training import train
from bid_assets.version_store.manifest import Draft
from bid_assets.version_store.parquet import Columns, WindowedTable, write_parquet
from bid_assets.version_store.store import VersionStore
from bid_assets_tests.features.tables import START
from bid_assets_tests.modelling.conftest import QUICK, where_history_decides
from bid_assets_tests.modelling.market import day, market


def relabelled(dataset: pa.Table, split: str, *, success: bool) -> pa.Table:
    labels = pc.if_else(pc.equal(dataset["split"], split), success, dataset["target_is_success"])
    return dataset.set_column(dataset.column_names.index("target_is_success"), "target_is_success", labels)


def test_a_model_learns_what_there_is_to_learn(model: BidSuccessModel, dataset: pa.Table) -> None:
    holdout = dataset.filter(pc.equal(dataset["split"], "holdout"))
    assert roc_auc_score(holdout["target_is_success"].to_numpy(), model.predict(holdout)) > 0.8


def test_the_holdout_has_no_part_in_the_model(model: BidSuccessModel, dataset: pa.Table) -> None:
    flipped = pc.if_else(
        pc.equal(dataset["split"], "train"), dataset["target_is_success"], pc.invert(dataset["target_is_success"])
    )
    other = dataset.set_column(dataset.column_names.index("target_is_success"), "target_is_success", flipped)
    assert content_hash(train(other, QUICK, "an-encoder")) == content_hash(model)


def test_other_seeds_give_other_models(model: BidSuccessModel, dataset: pa.Table) -> None:
    assert train(dataset, replace(QUICK, seed=1), "an-encoder").booster != model.booster


def test_the_number_of_threads_does_not_change_the_model(
    model: BidSuccessModel, dataset: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_boosting, "SINGLE_THREAD_CELLS", 0)
    assert content_hash(train(dataset, QUICK, "an-encoder")) == content_hash(model)


def test_no_linear_weight_allowed_gives_the_booster_alone(dataset: pa.Table) -> None:
    alone = train(where_history_decides(dataset), replace(QUICK, max_linear_weight=0.0))
    assert (alone.history_logit, alone.history_weight) == (None, 0.0)


def test_columns_that_do_not_say_their_family_give_the_booster_alone(dataset: pa.Table) -> None:
    rows = where_history_decides(dataset)
    stripped = pa.table({name: rows[name] for name in rows.column_names})
    assert train(stripped, QUICK).history_logit is None


def test_an_empty_dataset_is_not_trainable() -> None:
    with pytest.raises(NotTrainableError, match="no labelled bid"):
        train(market(300).dataset(cutoff=START), QUICK)


def test_too_few_labelled_bids_are_not_trainable() -> None:
    with pytest.raises(NotTrainableError, match="150 labelled bids; at least 200 are required"):
        train(market(150).dataset(), QUICK)


@pytest.mark.parametrize("split", ["train", "holdout"])
@pytest.mark.parametrize("success", [True, False])
def test_a_part_with_one_kind_of_outcome_only_is_not_trainable(dataset: pa.Table, split: str, *, success: bool) -> None:
    with pytest.raises(NotTrainableError, match=f"the {split} part has .*min_per_class"):
        train(relabelled(dataset, split, success=success), QUICK)


def test_a_dataset_without_features_is_not_trainable(dataset: pa.Table) -> None:
    with pytest.raises(NotTrainableError, match="no feature"):
        train(dataset.select(list(KEY_COLUMNS)), QUICK)


def test_features_without_any_value_give_the_base_rate(dataset: pa.Table) -> None:
    empty = dataset.select([*KEY_COLUMNS, "rate", "level"])
    for name in ("rate", "level"):
        empty = empty.set_column(empty.column_names.index(name), name, pa.nulls(len(empty), empty.schema.field(name).type))
    rate = pc.mean(dataset.filter(pc.equal(dataset["split"], "train"))["target_is_success"]).as_py()
    unrated = replace(QUICK, excluded_features="profile_rating")
    np.testing.assert_allclose(train(empty, unrated).predict(empty), rate, atol=0.02)


@pytest.mark.parametrize("column", ["bid_text", "level"])
def test_a_column_without_a_single_number_to_learn_from_is_harmless(dataset: pa.Table, column: str) -> None:
    nothing = dataset.append_column("nothing", pa.nulls(dataset.num_rows, pa.string()))
    assert train(nothing, QUICK).predict(nothing).shape == (dataset.num_rows,)


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 0.0), ("max_depth", 0), ("subsample", 1.5), ("validation_share", 1.0), ("max_linear_weight", 1.1)],
)
def test_a_parameter_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be between"):
        TrainingParameters(**{name: value})  # type: ignore[arg-type]


def test_an_older_part_with_one_kind_of_outcome_is_not_trainable(dataset: pa.Table) -> None:
    rows = dataset.filter(pc.equal(dataset["split"], "train"))
    late = pa.array(np.arange(rows.num_rows) >= rows.num_rows * 0.9)
    place = rows.column_names.index("target_is_success")
    with pytest.raises(NotTrainableError, match="one class only"):
        train(rows.set_column(place, "target_is_success", late), QUICK)


def test_a_dataset_that_is_all_train_needs_no_holdout() -> None:
    model = train(market(400).dataset(holdout_share=0, cutoff=day(150)), QUICK)
    assert model.training["train_rows"] > 200


def test_an_excluded_feature_is_in_the_dataset_and_not_in_the_model(dataset: pa.Table) -> None:
    model = train(dataset, replace(QUICK, excluded_features="level, rate"))
    assert not {"level", "rate"} & set(model.feature_schema.names)
    assert "bids" in model.feature_schema.names


def test_embeddings_are_in_the_dataset_and_in_the_model_only_where_a_setting_says_so(dataset: pa.Table) -> None:
    default = train(dataset, replace(QUICK, embeddings_in_model=False))
    assert not {"text", "job"} & set(default.feature_schema.names)
    assert {"text", "job"} <= set(dataset.column_names)


def test_no_more_rows_than_a_choice_needs_make_it(dataset: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend, "SELECTION_ROWS", 200)
    holdout = dataset.filter(pc.equal(dataset["split"], "holdout"))
    assert roc_auc_score(holdout["target_is_success"].to_numpy(), train(dataset, QUICK).predict(holdout)) > 0.75


class ColumnsRead(WindowedTable):
    """A stored table that keeps which columns were read at once."""

    reads: ClassVar[list[set[str]]] = []

    def read(self, columns: Columns = None) -> pa.Table:
        self.reads.append(set(columns if isinstance(columns, list) else ()))
        return super().read(columns)


def test_a_stored_dataset_is_read_text_by_text_and_gives_the_model_of_its_table(
    dataset: pa.Table, model: BidSuccessModel, tmp_path: Path
) -> None:
    store, window = VersionStore(str(tmp_path)), "2026-01-05"
    store.write(Draft("training_dataset", window, "parquet", "0" * 64), lambda path: write_parquet(dataset, path))
    stored = ColumnsRead(store, "training_dataset", [window], store.heads("training_dataset", [window]))
    assert content_hash(train(stored, QUICK, "an-encoder")) == content_hash(model)
    assert not any(len(columns & {"text", "job", "level"}) > 1 for columns in ColumnsRead.reads)
    assert set().union(*ColumnsRead.reads) >= {"text", "job", "level"}
