from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from bid_assets.features.registry import families
from bid_assets.orchestration.refresh.staleness import stale_windows
from bid_assets.settings import Settings
from bid_assets.version_store.manifest import CodeVersion, Draft, InputRef
from bid_assets.version_store.store import VersionStore

SETTINGS = Settings(encoder="static")
WEEKS = ["2026-10-26", "2026-11-02", "2026-11-09", "2026-11-16"]
[HISTORY] = [family for family in families() if family.name == "profile_historical_features"]
[TEXTS] = [family for family in families() if family.name == "bid_text_embeddings"]


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    made = VersionStore(str(tmp_path))
    for key in WEEKS:
        for table in ("raw_bids", "raw_bid_outcomes", "raw_jobs", "raw_profiles"):
            raw(made, table, key, "first")
    for key in WEEKS:
        features(made, key)
    return made


def raw(store: VersionStore, table: str, key: str, content: str) -> None:
    write(store, Draft(table, key, "parquet", content))


def features(store: VersionStore, key: str, code: str | None = None) -> None:
    """History and text features of a window, made from the raw versions of now."""
    for family, back in ((HISTORY, 14), (TEXTS, 1)):
        keys = [each for each in WEEKS if each <= key][-back:]
        write(
            store,
            Draft(
                family.name,
                key,
                "parquet",
                "features",
                inputs=tuple(refs(store, family.reads, keys)),
                code=CodeVersion(None, None, code or family.code_version),
                settings={"encoder": "static"} if family.needs_encoder else {},
            ),
        )


def refs(store: VersionStore, tables: Iterable[str], keys: list[str]) -> list[InputRef]:
    return [head.ref for table in tables for head in store.heads(table, keys).values()]


def write(store: VersionStore, draft: Draft) -> None:
    store.write(draft, lambda path: path.write_bytes(b""))


def stale(store: VersionStore, settings: Settings = SETTINGS) -> dict[str, list[str]]:
    return stale_windows(store, settings, [HISTORY, TEXTS], WEEKS)


def test_features_made_from_the_versions_of_now_are_current(store: VersionStore) -> None:
    assert stale(store) == {}


def test_a_changed_outcome_makes_history_stale_from_its_window_on_and_nothing_else(store: VersionStore) -> None:
    raw(store, "raw_bid_outcomes", WEEKS[2], "corrected")
    assert stale(store) == {HISTORY.name: WEEKS[2:]}


def test_a_raw_version_of_the_same_content_makes_nothing_stale(store: VersionStore) -> None:
    raw(store, "raw_bid_outcomes", WEEKS[2], "corrected")
    raw(store, "raw_bid_outcomes", WEEKS[2], "first")
    assert stale(store) == {}


def test_a_window_without_features_is_stale(store: VersionStore) -> None:
    empty = VersionStore(store.url + "/elsewhere")
    raw(empty, "raw_bids", WEEKS[0], "first")
    assert stale(empty) == {HISTORY.name: WEEKS, TEXTS.name: WEEKS}


def test_other_code_makes_features_stale(store: VersionStore) -> None:
    features(store, WEEKS[1], code="0")
    assert stale(store) == {HISTORY.name: [WEEKS[1]], TEXTS.name: [WEEKS[1]]}


def test_another_encoder_makes_only_embeddings_stale(store: VersionStore) -> None:
    assert stale(store, Settings(encoder="another")) == {TEXTS.name: WEEKS}


def test_a_raw_window_read_later_makes_those_stale_that_look_back_on_it(store: VersionStore) -> None:
    raw(store, "raw_bids", "2026-10-19", "older")
    assert stale(store) == {HISTORY.name: WEEKS}
