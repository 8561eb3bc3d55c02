from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from bid_assets.versions.activation import POINTER, activate, active_model
from bid_assets.versions.store import CorruptVersion, VersionStore
from bid_assets_tests.versions.drafts import write_text


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


def test_no_model_is_active_at_first(store: VersionStore) -> None:
    assert active_model(store) is None


def test_the_active_model_names_its_version_and_the_decision_behind_it(store: VersionStore) -> None:
    model, decision = (write_text(store, "x", asset=name).manifest for name in ("trained_model", "deployment"))
    activate(store, asdict(model.ref), decision)
    active = active_model(store)
    assert active is not None
    assert (active.model, active.decision) == (model.ref, decision.ref)
    assert active.since >= decision.created_at


def test_activating_the_active_model_again_changes_nothing(store: VersionStore) -> None:
    model, first, second = (write_text(store, "x", asset=name).manifest for name in ("model", "first", "second"))
    activate(store, asdict(model.ref), first)
    before = active_model(store)
    activate(store, asdict(model.ref), second)
    assert active_model(store) == before


def test_a_pointer_that_names_no_model_is_an_error(store: VersionStore) -> None:
    store.move_pointer(POINTER, {"model": {}})
    with pytest.raises(CorruptVersion, match="ACTIVE of the store"):
        active_model(store)
