"""Files of a real store are damaged: status and the loop go on, `verify --repair` and `run` make everything read as before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bid_assets.deployments.events import active_model, event_path
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.retraining.state import gather_state
from bid_assets_tests.platforms import FAMILIES, RAW, Platform, call, call_json, execute, small_platform


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory, static_encoder: Path) -> Iterator[Platform]:
    with small_platform(postgres, tmp_path_factory.mktemp("damaged"), static_encoder) as made:
        yield made


def content(platform: Platform) -> dict[tuple[str, str], str]:
    store = platform.store
    return {
        (asset, key): head.content_hash
        for asset in store.assets()
        for key, head in store.heads(asset, store.partitions(asset)).items()
    }


def data_file(platform: Platform, asset: str, window: str | None = None) -> Path:
    return Path(platform.store.file_url(platform.head(asset, window)))


def manifest_file(file: Path) -> Path:
    return file.parent / f"{file.name.split('.')[0]}.manifest.json"


def flip_last_byte(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def test_damage_of_every_kind_is_named_blocks_nothing_and_is_mended(platform: Platform) -> None:
    windows, before, active = platform.first_run["windows"], content(platform), active_model(platform.store)
    root, names = Path(platform.store.url), platform.versions()
    emptied = [root / "raw_bids" / windows[0] / "HEAD", root / event_path(1), root / "STORE"]
    flipped = [data_file(platform, "raw_bids", windows[2]), data_file(platform, "training_dataset")]
    gone = [data_file(platform, "profile_historical_features", windows[3]), data_file(platform, "trained_model")]
    lost = manifest_file(data_file(platform, "metrics_report"))
    stray = root / "raw_bids" / "2026-01-05 copy" / "HEAD"
    for file in (*emptied, lost):
        os.truncate(file, 0)
    for file in flipped:
        flip_last_byte(file)
    for file in gone:
        file.unlink()
    stray.parent.mkdir()
    stray.write_text("torn")

    assert call_json("status")["policy"]["action"] in ("wait", "retrain")
    with open_instance() as instance:
        assert gather_state(instance, platform.store, platform.settings).window == windows[-1]
    found = call("verify", "--json", fails=3).stdout
    assert [file.name for file in (*emptied[1:], *flipped, *gone, lost, stray) if f'"{file}"' not in found] == []
    human = call("verify", fails=3)
    assert "damaged file(s); mend them with `bid-assets verify --repair`" in human.stdout

    repairs = call_json("verify", "--repair")
    assert [each for each in repairs if not each["mended"]] == []
    assert content(platform) == before
    assert platform.versions() == names
    assert active_model(platform.store) == active
    assert f"No damage in the store {root}" in call("verify").stdout.replace("\n", "")


def test_a_run_over_a_damaged_window_restores_it_in_place(platform: Platform) -> None:
    windows, before, names = platform.first_run["windows"], content(platform), platform.versions()
    data_file(platform, "raw_bid_outcomes", windows[4]).unlink()
    flip_last_byte(data_file(platform, "client_historical_features", windows[4]))
    refreshed = call_json("run", "--from", windows[4], "--to", windows[4])
    assert windows[4] in refreshed["refreshed"]
    assert content(platform).items() >= before.items()
    assert {asset: platform.versions()[asset] for asset in (*RAW, *FAMILIES)} == {
        asset: names[asset] for asset in (*RAW, *FAMILIES)
    }
    assert {each["kind"] for each in call_json("verify")} <= {"stray file"}


def test_a_raw_window_whose_rows_have_changed_since_is_read_into_a_new_version_and_the_old_one_is_called_lost(
    platform: Platform,
) -> None:
    window = platform.first_run["windows"][1]
    old = platform.head("raw_bids", window)
    execute(platform.settings.app_db_url or "", f"UPDATE bids SET amount = 1 WHERE submitted_at < '{window}'::date + 7")
    Path(platform.store.file_url(old)).unlink()
    repairs = call("verify", "--repair", fails=3).stdout
    new = platform.head("raw_bids", window)
    assert new.version != old.version
    assert "a new version is in its place" in repairs.replace("\n", " ")
    assert platform.rows("raw_bids", window).num_rows == new.rows
