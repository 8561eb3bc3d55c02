"""API keys: what is kept of them, who may do what, and how quickly a change of the file counts."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bid_assets.cli import main
from bid_assets.serving.middleware.api_keys import (
    CHECK_SECONDS,
    ApiKeyError,
    ApiKeyStore,
    create_key,
    marker_path,
    read_keys,
    require_keys_off_loopback,
    revoke_key,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "api_keys.json"


def test_a_key_is_known_by_its_token_and_has_its_scopes(path: Path) -> None:
    bidder, ops = create_key(path, "bidder", ["predict"]), create_key(path, "ops", ["admin"])
    key_store = ApiKeyStore(path)
    one, other = key_store.authenticate(bidder.encode()), key_store.authenticate(ops.encode())
    assert one is not None
    assert (one.name, one.has_scope("predict"), one.has_scope("admin")) == ("bidder", True, False)
    assert other is not None
    assert (other.name, other.has_scope("predict"), other.has_scope("admin")) == ("ops", True, True)


@pytest.mark.parametrize(
    "token",
    [b"", b"ba_", b"x" * 100_000, b"ba_00000000_" + b"0" * 64, b"\xff\x00", "ba_００００００００_".encode()],
)
def test_anything_else_is_no_key(path: Path, token: bytes) -> None:
    create_key(path, "bidder", ["predict"])
    assert ApiKeyStore(path).authenticate(token) is None


def test_a_token_with_another_secret_or_id_or_a_line_break_is_no_key(path: Path) -> None:
    token = create_key(path, "bidder", ["predict"]).encode()
    key_store = ApiKeyStore(path)
    last = b"1" if token.endswith(b"0") else b"0"
    for wrong in (token[:-1] + last, token + b"\n", token[:-1], token.upper(), b"ba_00000000" + token[11:]):
        assert key_store.authenticate(wrong) is None, wrong


def test_only_hashes_are_kept_for_the_owner_only(path: Path) -> None:
    token = create_key(path, "bidder", ["predict"])
    secret = token.rsplit("_", 1)[1]
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == [
        ".api_keys.json.lock",
        "api_keys.json",
        "api_keys.json.required",
    ]


def test_without_a_file_nothing_is_asked_and_from_the_first_key_on_it_is(path: Path) -> None:
    key_store = ApiKeyStore(path)
    assert not key_store.enabled
    token = create_key(path, "bidder", ["predict"])
    _wait_for_reload(key_store)
    assert key_store.enabled
    assert key_store.authenticate(token.encode()) is not None


def test_a_revoked_key_is_refused_within_a_second(path: Path) -> None:
    token = create_key(path, "bidder", ["predict"]).encode()
    key_store = ApiKeyStore(path)
    revoke_key(path, "bidder")
    started = time.monotonic()
    while key_store.authenticate(token) is not None:
        key_store.reload_if_changed()
        time.sleep(0.01)
    assert time.monotonic() - started < CHECK_SECONDS + 0.5
    assert key_store.enabled, "revoking the last key must not open the door"


def test_a_file_that_vanishes_closes_the_door(path: Path) -> None:
    token = create_key(path, "bidder", ["predict"]).encode()
    key_store = ApiKeyStore(path)
    path.unlink()
    _wait_for_reload(key_store)
    assert key_store.enabled
    assert key_store.authenticate(token) is None


def test_a_service_that_starts_after_the_file_has_vanished_lets_nobody_in(path: Path) -> None:
    token = create_key(path, "bidder", ["predict"]).encode()
    kept = path.read_bytes()
    path.unlink()
    key_store = ApiKeyStore(path)
    assert key_store.enabled
    assert key_store.authenticate(token) is None
    path.write_bytes(kept)
    _wait_for_reload(key_store)
    assert key_store.authenticate(token) is not None


def test_a_file_from_before_there_were_markers_gets_one_when_it_is_read(path: Path) -> None:
    create_key(path, "bidder", ["predict"])
    marker_path(path).unlink()
    ApiKeyStore(path)
    path.unlink()
    assert ApiKeyStore(path).enabled


def test_a_worker_that_was_told_of_keys_lets_nobody_in_without_them(path: Path) -> None:
    assert ApiKeyStore(path, required=True).enabled


def test_a_key_that_was_never_made_closes_nothing(path: Path) -> None:
    with pytest.raises(ApiKeyError, match="no key is called"):
        revoke_key(path, "nobody")
    assert not ApiKeyStore(path).enabled


def test_a_file_that_is_damaged_while_it_serves_changes_nothing(path: Path) -> None:
    token = create_key(path, "bidder", ["predict"]).encode()
    key_store = ApiKeyStore(path)
    path.write_text('{"keys": [')
    _wait_for_reload(key_store)
    assert key_store.authenticate(token) is not None


def test_a_damaged_file_is_named_at_the_start(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"keys": [{"id": 1}]}')
    with pytest.raises(ApiKeyError, match=r"api_keys\.json is damaged"):
        ApiKeyStore(path)


def test_keys_made_at_once_are_all_kept(path: Path) -> None:
    makers = [threading.Thread(target=create_key, args=(path, f"k{n}", ["predict"])) for n in range(12)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sorted(key.name for key in read_keys(path)) == sorted(f"k{n}" for n in range(12))


@pytest.mark.parametrize(
    ("name", "scopes", "told"),
    [("", ["predict"], "no name"), ("a b", ["predict"], "no name"), ("a", [], "scopes"), ("a", ["root"], "scopes")],
)
def test_names_and_scopes_that_are_none_are_refused(path: Path, name: str, scopes: list[str], told: str) -> None:
    with pytest.raises(ApiKeyError, match=told):
        create_key(path, name, scopes)


def test_a_name_is_taken_once(path: Path) -> None:
    create_key(path, "bidder", ["predict"])
    with pytest.raises(ApiKeyError, match="already"):
        create_key(path, "bidder", ["admin"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.7", "example.org"])
def test_without_keys_only_this_machine_may_be_let_in(path: Path, host: str) -> None:
    with pytest.raises(ApiKeyError, match="bid-assets keys create"):
        require_keys_off_loopback(host, ApiKeyStore(path))
    token = create_key(path, "bidder", ["predict"])
    require_keys_off_loopback(host, ApiKeyStore(path))
    assert token


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_on_this_machine_no_key_is_needed(path: Path, host: str) -> None:
    require_keys_off_loopback(host, ApiKeyStore(path))


def test_a_door_whose_last_key_was_revoked_is_not_opened(path: Path) -> None:
    create_key(path, "bidder", ["predict"])
    revoke_key(path, "bidder")
    with pytest.raises(ApiKeyError, match="bid-assets keys create"):
        require_keys_off_loopback("0.0.0.0", ApiKeyStore(path))


def test_an_unknown_id_costs_as_much_as_a_wrong_secret(path: Path) -> None:
    """Within what timing a function a thousand times can tell: both hash and compare once."""
    token = create_key(path, "bidder", ["predict"]).encode()
    key_store = ApiKeyStore(path)
    wrong, unknown = token[:-4] + b"0000", b"ba_00000000" + token[11:]

    def seconds(guess: bytes) -> float:
        started = time.perf_counter()
        for _ in range(200):
            key_store.authenticate(guess)
        return time.perf_counter() - started

    # By turns: a machine that slows down for a moment slows both.
    of_unknown, of_wrong = zip(*((seconds(unknown), seconds(wrong)) for _ in range(30)), strict=True)
    assert min(of_unknown) == pytest.approx(min(of_wrong), rel=0.5)


def test_the_command_line_makes_lists_and_revokes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bid_assets.settings import get_settings

    monkeypatch.setenv("BID_ASSETS_HOME", str(path.parent))
    get_settings.cache_clear()
    runner = CliRunner()
    made = runner.invoke(main, ["keys", "create", "bidder", "--scope", "predict"], env=dict(os.environ))
    token = made.stdout.strip()
    assert ApiKeyStore(path).authenticate(token.encode()) is not None
    assert "shown this once" in made.stderr
    listed = json.loads(runner.invoke(main, ["keys", "list", "--json"]).stdout)
    assert [(row["name"], row["scopes"]) for row in listed] == [("bidder", ["predict"])]
    assert token not in runner.invoke(main, ["keys", "list"]).output
    assert "bidder" in runner.invoke(main, ["keys", "list"]).output
    create_key(path, "other", ["predict"])
    assert "last key" not in runner.invoke(main, ["keys", "revoke", "other"]).output
    last = runner.invoke(main, ["keys", "revoke", "bidder"])
    assert (last.exit_code, "every request is refused" in last.stdout) == (0, True)
    assert all(str(each) in last.stdout for each in (path, marker_path(path)))
    assert json.loads(runner.invoke(main, ["keys", "list", "--json"]).stdout) == []
    again = runner.invoke(main, ["keys", "revoke", "bidder"])
    assert (again.exit_code, "no key is called bidder" in again.stderr) == (1, True)
    get_settings.cache_clear()


def _wait_for_reload(key_store: ApiKeyStore) -> None:
    time.sleep(CHECK_SECONDS + 0.05)
    key_store.reload_if_changed()
