"""`bid-assets run` over a network that falls silent without a reset: it ends by the deadline, says so, and goes on when asked
again.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bid_assets.cli import ANSWER_IS_NO
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.settings import get_settings
from bid_assets_tests.platforms import call, call_json, execute, small_platform
from bid_assets_tests.proxies import proxy_to

EDIT = "update bids set generated_bid_text = generated_bid_text || ' (edited)'"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answered", "exit_code", "words"), [(0, 1, "cannot connect"), (1_000_000, ANSWER_IS_NO, "said nothing for 2 s")]
)
def test_a_run_ends_by_the_deadline_and_the_same_command_finishes_the_job(
    postgres: EmbeddedServer,
    static_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answered: int,
    exit_code: int,
    words: str,
) -> None:
    """Silent from the start, and while rows arrive; `answered` are bytes."""
    with small_platform(postgres, tmp_path, static_encoder) as platform:
        url = platform.settings.app_db_url
        assert url is not None
        execute(url, EDIT)
        with proxy_to(url) as proxy:
            monkeypatch.setenv("BID_ASSETS_APP_DB_URL", proxy.url)
            monkeypatch.setenv("BID_ASSETS_DB_SILENCE_SECONDS", "2")
            get_settings.cache_clear()
            proxy.swallow_after(answered)
            started = time.monotonic()
            assert words in " ".join(call("run", fails=exit_code).output.split())
            assert time.monotonic() - started < 60
            proxy.recover()
            again = call_json("run")
            assert not again["failures"]
            assert set(again["refreshed"]) >= set(platform.store.partitions("raw_bids"))
