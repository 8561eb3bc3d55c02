from __future__ import annotations

import pytest

from bid_assets.app_db.connections import DatabaseUnreachableError, engine, libpq_url
from bid_assets.app_db.database import app_db_url, dagster_db_url
from bid_assets.settings import Settings


@pytest.mark.parametrize("url", ["postgres://u:p@h/d", "postgresql://u:p@h/d", "postgresql+psycopg2://u:p@h/d"])
def test_a_url_may_be_spelled_as_others_spell_it(url: str) -> None:
    assert libpq_url(url) == "postgresql://u:p@h/d"


@pytest.mark.parametrize("url", ["mysql://u@h/d", "sqlite:///x.db", "h/d"])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        libpq_url(url)


def test_the_urls_of_the_settings_are_used(settings: Settings) -> None:
    assert app_db_url(settings) == settings.app_db_url
    assert dagster_db_url(settings) == settings.dagster_db_url


def test_an_engine_speaks_utc_through_psycopg2(app_db: str) -> None:
    made = engine(app_db)
    with made.connect() as connection:
        assert connection.exec_driver_sql("show timezone").scalar() == "UTC"
    assert made.driver == "psycopg2"
    made.dispose()


def test_nobody_there_is_one_readable_error_without_the_password() -> None:
    with pytest.raises(DatabaseUnreachableError, match="cannot connect to") as error:
        engine("postgresql://someone:secret@127.0.0.1:1/app")
    assert "secret" not in str(error.value)
