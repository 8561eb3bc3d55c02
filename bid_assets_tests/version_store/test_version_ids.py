from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.version_store.store import VersionNotFoundError, VersionStore
from bid_assets.version_store.version_ids import AmbiguousVersionError, match_versions, resolve, short_ids
from bid_assets_tests.version_store.drafts import ASSET, write_text

ONE, TWO, THREE = "notes_20261123_144420_ad17058f", "notes_20261123_144421_ad170001", "notes_20261124_090000_3c01b2aa"
VERSIONS = st.lists(
    st.builds(
        "notes_{:08d}_{:06d}_{}".format,
        st.integers(20261101, 20261103),
        st.integers(0, 2),
        st.text("0123ab", min_size=8, max_size=8),
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


@given(VERSIONS)
def test_law_a_short_id_stands_for_its_version_and_no_other(versions: list[str]) -> None:
    for version, short in short_ids(versions).items():
        assert match_versions(versions, short) == [version]
        assert match_versions(versions, version) == [version]


def test_a_short_id_is_the_hash_where_no_other_version_has_it() -> None:
    assert short_ids([ONE, TWO, THREE]) == {ONE: "ad17058f", TWO: "ad170001", THREE: "3c01b2aa"}
    namesake = "notes_20261125_101010_ad17058f"
    assert short_ids([ONE, namesake]) == {ONE: "144420_ad17058f", namesake: "101010_ad17058f"}


@pytest.mark.parametrize("text", [THREE, "3c01b2aa", "3c01", "b2aa", "20261124", "notes_20261124", "090000_3c01b2aa", "090000"])
def test_a_beginning_or_an_end_that_only_one_version_has_will_do(text: str) -> None:
    assert match_versions([ONE, TWO, THREE], text) == [THREE]


@pytest.mark.parametrize("text", ["aa", "notes_2027", "ffffffff", ""])
def test_what_no_version_has_or_is_too_short_stands_for_none(text: str) -> None:
    assert match_versions([ONE, TWO, THREE], text) == []


def test_several_versions_are_named_and_nothing_is_chosen(store: VersionStore) -> None:
    written = [write_text(store, text).manifest.version for text in ("one", "two")]
    with pytest.raises(AmbiguousVersionError, match="may be any of 2 versions") as told:
        resolve(store, ASSET, "notes_20")
    assert all(version in str(told.value) for version in written)


def test_a_version_is_found_in_its_window_by_its_short_id(store: VersionStore) -> None:
    version = write_text(store, "one", "2026-01-12").manifest.version
    assert resolve(store, ASSET, version[-8:]) == ("2026-01-12", version)
    assert resolve(store, ASSET, version, "2026-01-12") == ("2026-01-12", version)


def test_an_unknown_version_is_an_error_that_names_the_newest(store: VersionStore) -> None:
    version = write_text(store, "one").manifest.version
    with pytest.raises(
        VersionNotFoundError, match=rf"no notes ffff1111; the newest are {version} \(`bid-assets versions notes`"
    ):
        resolve(store, ASSET, "ffff1111")
    with pytest.raises(VersionNotFoundError, match="of window 2026-02-02; it has none at all"):
        resolve(store, ASSET, version, "2026-02-02")
