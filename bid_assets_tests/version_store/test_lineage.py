from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from bid_assets.version_store.content_hash import table_hash
from bid_assets.version_store.lineage import LineageNode, downstream, upstream, versions_containing
from bid_assets.version_store.manifest import CodeVersion, Draft, InputRef, Manifest
from bid_assets.version_store.parquet import write_parquet
from bid_assets.version_store.store import VersionNotFoundError, VersionStore
from bid_assets_tests.version_store.drafts import write_text

ONE, TWO = "2026-01-05", "2026-01-12"


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(str(tmp_path / "store"))


def make(store: VersionStore, asset: str, window: str, *inputs: Manifest, text: str = "x", **draft: Any) -> Manifest:
    refs = tuple(manifest.ref for manifest in inputs)
    return write_text(store, f"{asset} {window} {text}", window, asset=asset, inputs=refs, **draft).manifest


@pytest.fixture
def chain(store: VersionStore) -> dict[str, Manifest]:
    """Two raw windows, features of each, a dataset and a model of both; a report on model and dataset."""
    raw1, raw2 = (make(store, "raw", window, code=CodeVersion("c0ffee", False, "1")) for window in (ONE, TWO))
    features1, features2 = make(store, "features", ONE, raw1), make(store, "features", TWO, raw1, raw2)
    dataset = make(store, "dataset", TWO, features1, features2, raw2)
    model = make(store, "a_model", TWO, dataset)
    report = make(store, "report", TWO, model, dataset)
    names = ("raw1", "raw2", "features1", "features2", "dataset", "model", "report")
    return dict(zip(names, (raw1, raw2, features1, features2, dataset, model, report), strict=True))


def leaves(node: LineageNode) -> dict[InputRef, Manifest | None]:
    """The ends of a tree."""
    if not node.inputs:
        return {node.ref: node.manifest}
    return {ref: manifest for child in node.inputs for ref, manifest in leaves(child).items()}


def remove(store: VersionStore, manifest: Manifest) -> None:
    (Path(store.url) / manifest.asset / manifest.partition / f"{manifest.version}.manifest.json").unlink()


def test_the_tree_above_a_model_goes_down_to_raw_windows_and_their_commit(
    store: VersionStore, chain: dict[str, Manifest]
) -> None:
    ends = leaves(upstream(store, chain["report"]))
    assert ends == {chain[name].ref: chain[name] for name in ("raw1", "raw2")}
    assert {manifest.code.git_commit for manifest in ends.values() if manifest} == {"c0ffee"}


def test_a_version_that_several_have_used_is_one_node(store: VersionStore, chain: dict[str, Manifest]) -> None:
    tree = upstream(store, chain["dataset"])
    features1, features2, raw2 = tree.inputs
    assert features1.inputs[0] is features2.inputs[0]
    assert features2.inputs[1] is raw2


def test_the_tree_follows_the_versions_that_were_used_not_the_heads(store: VersionStore, chain: dict[str, Manifest]) -> None:
    assert make(store, "raw", ONE, text="newer").version != chain["raw1"].version
    assert set(leaves(upstream(store, chain["model"]))) == {chain["raw1"].ref, chain["raw2"].ref}


def test_a_manifest_that_is_gone_leaves_its_name_in_the_tree(store: VersionStore, chain: dict[str, Manifest]) -> None:
    remove(store, chain["raw1"])
    ends = leaves(upstream(store, chain["model"]))
    assert ends == {chain["raw1"].ref: None, chain["raw2"].ref: chain["raw2"]}


def test_a_version_whose_manifest_is_damaged_is_a_node_without_one(store: VersionStore, chain: dict[str, Manifest]) -> None:
    raw = chain["raw1"]
    (Path(store.url) / raw.asset / raw.partition / f"{raw.version}.manifest.json").write_text("{")
    node = upstream(store, chain["model"])
    while node.inputs:
        node = next(each for each in node.inputs if each.ref == raw.ref or each.inputs)
    assert (node.ref, node.manifest) == (raw.ref, None)


def test_the_tree_is_json_with_facts_at_every_node(store: VersionStore, chain: dict[str, Manifest]) -> None:
    node = orjson.loads(orjson.dumps(upstream(store, chain["model"]).to_dict()))
    while node["inputs"]:
        node = node["inputs"][0]
    assert (node["asset"], node["partition"], node["version"]) == ("raw", ONE, chain["raw1"].version)
    assert node["content_hash"] == chain["raw1"].content_hash
    assert node["code"] == {"git_commit": "c0ffee", "dirty": False, "asset": "1"}
    assert {"created_at", "run_id", "rows", "cutoff", "settings"} <= set(node)


def test_below_a_window_lies_all_that_learned_from_it_in_order_of_stage(
    store: VersionStore, chain: dict[str, Manifest]
) -> None:
    assert downstream(store, "raw", ONE) == [chain[name] for name in ("features1", "features2", "dataset", "model", "report")]
    assert downstream(store, "raw", TWO) == [chain[name] for name in ("features2", "dataset", "model", "report")]
    assert downstream(store, "a_model") == [chain["report"]]
    assert downstream(store, "report") == []


def test_only_what_learned_from_this_very_version_is_below_it(store: VersionStore, chain: dict[str, Manifest]) -> None:
    newer = make(store, "raw", ONE, text="newer")
    features = make(store, "features", ONE, newer, text="newer")
    assert downstream(store, "raw", ONE, newer.version) == [features]
    assert features not in downstream(store, "raw", ONE, chain["raw1"].version)


def test_what_learned_from_a_version_that_is_gone_is_still_found(store: VersionStore, chain: dict[str, Manifest]) -> None:
    remove(store, chain["features1"])
    assert downstream(store, "features", ONE) == [chain[name] for name in ("dataset", "model", "report")]


@pytest.mark.parametrize("unknown", [("nothing",), ("raw", "2020-01-06"), ("raw", ONE, "raw_20260101_000000_00000000")])
def test_a_version_that_nobody_knows_is_an_error(
    store: VersionStore, chain: dict[str, Manifest], unknown: tuple[str, ...]
) -> None:
    with pytest.raises(VersionNotFoundError, match=unknown[-1]):
        downstream(store, *unknown)


def table_version(store: VersionStore, profiles: list[str], window: str = ONE) -> Manifest:
    table = pa.table({"profile_id": profiles, "n": range(len(profiles))})
    draft = Draft("training_dataset", window, "parquet", table_hash(table))
    return store.write(draft, lambda path: write_parquet(table, path)).manifest


def test_datasets_that_contain_a_profile_are_found_and_all_that_learned_from_them(store: VersionStore) -> None:
    with_it, without = table_version(store, ["a", "b"]), table_version(store, ["b", "c"])
    later = table_version(store, ["c", "a"], TWO)
    model, _, both = (
        make(store, "model", ONE, with_it),
        make(store, "model", TWO, without),
        make(store, "z", TWO, with_it, later),
    )
    assert versions_containing(store, column="profile_id", value="a") == [with_it, later, model, both]
    assert versions_containing(store, column="profile_id", value="nobody") == []


def test_a_dataset_that_cannot_tell_is_an_error(store: VersionStore) -> None:
    manifest = table_version(store, ["a"])
    with pytest.raises(ValueError, match=rf"{manifest.file} has no column bid_id"):
        versions_containing(store, column="bid_id", value="1")
