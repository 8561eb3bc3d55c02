"""No error, log or page holds a password, however the URL is written."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from bid_assets.app_db.connections import MalformedUrlError, connect, engine, libpq_url, without_password
from bid_assets.app_db.database import app_db_url, dagster_db_url, prediction_db_url
from bid_assets.app_db.point_lookup import PointLookup
from bid_assets.cli import main
from bid_assets.prediction_log.connection import PredictionConnection
from bid_assets.settings import Settings
from bid_assets_tests.app_db.database import MONDAY, snapshot_of
from bid_assets_tests.conftest import settings_for

SECRET = "hunter2%/@: '\\x"
NOBODY = "127.0.0.1:1"

URLS = {
    "userinfo": f"postgresql://someone:{quote(SECRET, safe='')}@{NOBODY}/app",
    "query": f"postgresql://someone@{NOBODY}/app?password={quote(SECRET, safe='')}&connect_timeout=2",
    "both": f"postgresql://someone:hunter2@{NOBODY}/app?sslpassword=hunter2&password=hunter2",
    "sqlalchemy": f"postgresql+psycopg2://someone:hunter2@{NOBODY}/app",
}
MALFORMED = {
    "slash": f"postgresql://someone:hunter2/x@{NOBODY}/app",
    "at": f"postgresql://someone:hunter2@x@{NOBODY}/app",
    "percent": f"postgresql://someone:hunter2%zz@{NOBODY}/app",
    "port": "postgresql://someone:hunter2@127.0.0.1:hunter2/app",
    "parameter": f"postgresql://someone@{NOBODY}/app?passwrd=hunter2",
    "no scheme": f"someone:hunter2@{NOBODY}/app",
    "one slash": f"postgresql:/someone:hunter2@{NOBODY}/app",
    "other database": f"mysql://someone:hunter2@{NOBODY}/app",
    "keywords": "host=127.0.0.1 port=1 password=hunter2",
}


def _snapshot(url: str) -> None:
    with snapshot_of(url):
        pass


def _lookup(url: str) -> None:
    with closing(PointLookup(url)) as lookup:
        try:
            lookup.fetch(["p"], [], MONDAY, MONDAY + timedelta(days=1))
        finally:
            assert "hunter2" not in str(lookup.failure)


WAYS: dict[str, Callable[[str], object]] = {
    "connect": connect,
    "engine": engine,
    "snapshot": _snapshot,
    "lookup": _lookup,
    "predictions": PredictionConnection,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", URLS)
def test_no_error_of_connecting_holds_the_password(shape: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Exception, match=re.escape("127.0.0.1")) as caught:
        WAYS[way](libpq_url(URLS[shape]))
    shown = str(caught.value) + repr(caught.value) + caplog.text
    assert "hunter2" not in shown
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("shape", MALFORMED)
@pytest.mark.parametrize("setting", ["app_db_url", "dagster_db_url", "prediction_db_url"])
def test_a_malformed_url_is_refused_by_the_name_of_its_setting_and_quoted_nowhere(
    shape: str, setting: str, tmp_path: Path
) -> None:
    url_of = {"app_db_url": app_db_url, "dagster_db_url": dagster_db_url, "prediction_db_url": prediction_db_url}[setting]
    with pytest.raises(MalformedUrlError, match=f"BID_ASSETS_{setting.upper()}") as caught:
        url_of(Settings(home=tmp_path).model_copy(update={setting: MALFORMED[shape]}))
    assert "hunter2" not in repr(caught.value)


@pytest.mark.parametrize("url", [*URLS.values(), *MALFORMED.values()])
def test_a_url_as_it_is_shown_holds_no_password(url: str) -> None:
    assert "hunter2" not in without_password(url)
    assert "hunter2" not in without_password(url, f"cannot use {url}")


@pytest.mark.parametrize("url", [URLS["query"], MALFORMED["slash"]])
def test_no_command_shows_a_password(tmp_path: Path, url: str) -> None:
    with settings_for(tmp_path, url, url):
        for command in (["status"], ["settings"], ["import", "."], ["run"], ["marketplace", "create"]):
            result = CliRunner().invoke(main, command)
            assert "hunter2" not in result.output + result.stderr, command
