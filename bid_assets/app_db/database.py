"""Which databases are used: yours, by URL, or the embedded server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bid_assets.app_db.connections import MalformedUrlError, libpq_url, url_with_schema
from bid_assets.common.private_state import ensure_private_home
from bid_assets.settings import Settings

if TYPE_CHECKING:
    from bid_assets.embedded_postgres.server import EmbeddedServer

APP_DATABASE = "bid_assets_app"
DAGSTER_DATABASE = "bid_assets_dagster"
PREDICTION_DATABASE = "bid_assets_predictions"
ASYNCHRONOUS_COMMIT = "&options=-csynchronous_commit%3Doff"
"""Thousands of small commits, each of which would wait for the disk. If the machine dies, the last half second of Dagster's
events may be lost, never their consistency; versions and lineage are in the store."""


def app_db_url(settings: Settings) -> str:
    """The libpq URL (`postgresql://...`) of the application's database; starts the embedded server where none is set."""
    url = _url_of_setting(settings.app_db_url, "APP_DB_URL") if settings.app_db_url else _embedded_url(settings, APP_DATABASE)
    return url_with_schema(url, settings.app_db_schema)


def dagster_db_url(settings: Settings) -> str:
    """The libpq URL of the database that holds Dagster's own storage."""
    if settings.dagster_db_url:
        return _url_of_setting(settings.dagster_db_url, "DAGSTER_DB_URL")
    return _embedded_url(settings, DAGSTER_DATABASE) + ASYNCHRONOUS_COMMIT


def prediction_db_url(settings: Settings) -> str:
    """The libpq URL of the database that remembers predictions: one of its own, Dagster's, or the embedded server's."""
    if settings.prediction_db_url:
        return _url_of_setting(settings.prediction_db_url, "PREDICTION_DB_URL")
    return (
        _url_of_setting(settings.dagster_db_url, "DAGSTER_DB_URL")
        if settings.dagster_db_url
        else _embedded_url(settings, PREDICTION_DATABASE)
    )


def embedded_server(settings: Settings) -> EmbeddedServer | None:
    """The embedded server, started if need be; None where no database of ours is on it."""
    return None if settings.app_db_url and settings.dagster_db_url else _embedded(settings)


def _url_of_setting(url: str, setting: str) -> str:
    try:
        return libpq_url(url)
    except MalformedUrlError as error:
        raise MalformedUrlError(f"BID_ASSETS_{setting}: {error}") from None


def _embedded_url(settings: Settings, database: str) -> str:
    return _embedded(settings).url(database)


def _embedded(settings: Settings) -> EmbeddedServer:
    from bid_assets.embedded_postgres.server import shared_server

    return shared_server(settings.postgres_data or settings.home / "postgres", home=ensure_private_home(settings.home))
