"""The Python API, on a real store: docs/reference/python_api.md and the page on notebooks run as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bid_assets
from bid_assets.deployments.events import active_model
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.modelling.classifier import BidSuccessClassifier
from bid_assets.modelling.model_file import content_hash
from bid_assets.orchestration.assets.model import training_parameters
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.platforms import Platform, small_platform

PAGE = CHECKOUT / "docs" / "reference" / "python_api.md"
NOTEBOOK_PAGE = CHECKOUT / "docs" / "how-to" / "use_the_model_in_a_notebook.md"


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory, static_encoder: Path) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path_factory.mktemp("api"), static_encoder) as made:
        yield made


def run_page(page: Path, snippets: int) -> dict[str, Any]:
    """The names that the page's Python defines."""
    found = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(found) == snippets
    names: dict[str, Any] = {}
    for snippet in found:
        exec(compile(snippet, page.name, "exec"), names)
    return names


def test_the_page_of_the_api_runs_as_it_is_written(platform: Platform) -> None:
    assert len(run_page(PAGE, 2)["frame"]) == platform.head("training_dataset").rows


def test_the_page_on_notebooks_runs_as_it_is_written(platform: Platform) -> None:
    names = run_page(NOTEBOOK_PAGE, 3)
    assert names["contributions"].shape == (len(names["frame"]), len(names["names"]))
    assert all(0 < loss < 1 for loss in names["losses"].values())


def test_a_classifier_that_is_fitted_to_a_frame_is_the_model_of_the_loop(platform: Platform) -> None:
    frame = bid_assets.load_dataset("newest").to_pandas()
    rows = frame[frame["split"] == "train"]
    parameters = training_parameters(platform.settings).as_dict()
    model = BidSuccessClassifier(**parameters).fit(rows, rows["target_is_success"]).compile()
    assert content_hash(model) == platform.head("trained_model").content_hash


def test_the_active_model_scores_the_dataset_that_it_learned_from(platform: Platform) -> None:
    model, dataset = bid_assets.load_model("active"), bid_assets.load_dataset("active")
    active = active_model(platform.store)
    assert active is not None
    assert model.version.version == active.model.version
    assert model.dataset == platform.head("training_dataset").version
    assert set(model.columns) <= set(dataset.column_names)
    probabilities = model.predict(dataset)
    assert probabilities.shape == (dataset.num_rows,)
    assert np.array_equal(probabilities, model.predict(dataset.select(list(model.columns))))
    won = np.array(dataset["target_is_success"].to_pylist(), dtype=bool)
    assert probabilities[won].mean() > probabilities[~won].mean()


def test_a_frame_of_pandas_is_scored_as_the_table_that_it_was(platform: Platform) -> None:
    model, dataset = bid_assets.load_model("active"), bid_assets.load_dataset("active")
    expected, frame = model.predict(dataset), dataset.to_pandas()
    assert np.array_equal(model.predict(frame), expected)
    for rows in (slice(3), slice(5, 6), slice(0, 0), slice(None, None, 7)):
        assert np.array_equal(model.predict(frame[rows]), expected[rows])
    with pytest.raises(ValueError, match=r"column 'amount' cannot be read as double: .*'much'"):
        model.predict(frame.assign(amount="much"))
    with pytest.raises(ValueError, match="column 'amount' is missing"):
        model.predict(frame.drop(columns="amount"))


def test_versions_and_short_ids_name_what_is_loaded(platform: Platform) -> None:
    store = bid_assets.Store(platform.store.url)
    [version] = store.versions("trained_model")
    for name in (version.version, version.version[-8:], "newest", "active"):
        assert store.load_model(name).version == version
    assert store.load_dataset("newest", ["bid_id"]).column_names == ["bid_id"]
    assert ("training_dataset", platform.window) in [each[:2] for each in version.inputs]


def test_tables_are_read_by_window(platform: Platform) -> None:
    store = bid_assets.Store(platform.store.url)
    windows = store.windows("raw_bids")
    by_window = [store.load_table("raw_bids", window).num_rows for window in windows]
    assert store.load_table("raw_bids").num_rows == store.load_table("raw_bids", windows).num_rows == sum(by_window)


def test_what_does_not_exist_is_a_lookup_error_that_says_what_to_do(platform: Platform, tmp_path: Path) -> None:
    store, empty = bid_assets.Store(platform.store.url), bid_assets.Store(tmp_path)
    with pytest.raises(LookupError, match="raw_bids has no version of window 1999-01-04"):
        store.load_table("raw_bids", "1999-01-04")
    with pytest.raises(LookupError, match=r"no model is active in .*`bid-assets run` makes one"):
        empty.load_model()
    with pytest.raises(LookupError, match="the store has no trained_model deadbeef"):
        store.load_model("deadbeef")
    with pytest.raises(AttributeError, match="has no attribute 'load_everything'"):
        bid_assets.load_everything  # type: ignore[attr-defined]  # noqa: B018


def test_a_damaged_model_is_an_error_and_is_not_opened(platform: Platform) -> None:
    file = Path(platform.store.file_url(platform.head("trained_model")))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(RuntimeError, match="must not be used: `bid-assets verify --repair`"):
            bid_assets.load_model()
    finally:
        file.write_bytes(content)
