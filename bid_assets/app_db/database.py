"""Which databases are used: yours, by URL, or the embedded server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bid_assets.private_state import private_home
from bid_assets.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy

    from bid_assets.app_db.embedded import EmbeddedServer

APP_DATABASE = "bid_assets_app"
DAGSTER_DATABASE = "bid_assets_dagster"
PREDICTION_DATABASE = "bid_assets_predictions"
RELAXED = "&options=-csynchronous_commit%3Doff"
"""Thousands of small commits, each of which would wait for the disk. If the machine dies, the last half second of Dagster's
events may be lost, never their consistency; versions and lineage are in the store."""


class DatabaseUnreachable(RuntimeError):
    """No connection could be made; the message does not hold the password."""


def app_db_url(settings: Settings) -> str:
    """The libpq URL (`postgresql://...`) of the application's database; starts the embedded server where none is set."""
    return libpq_url(settings.app_db_url) if settings.app_db_url else _embedded_url(settings, APP_DATABASE)


def dagster_db_url(settings: Settings) -> str:
    """The libpq URL of the database that holds Dagster's own storage."""
    if settings.dagster_db_url:
        return libpq_url(settings.dagster_db_url)
    return _embedded_url(settings, DAGSTER_DATABASE) + RELAXED


def prediction_db_url(settings: Settings) -> str:
    """The libpq URL of the database that remembers predictions: one of its own, Dagster's, or the embedded server's."""
    url = settings.prediction_db_url or settings.dagster_db_url
    return libpq_url(url) if url else _embedded_url(settings, PREDICTION_DATABASE)


def embedded_server(settings: Settings) -> EmbeddedServer | None:
    """The embedded server, started if need be; None where no database of ours is on it."""
    return None if settings.app_db_url and settings.dagster_db_url else _embedded(settings)


def libpq_url(url: str) -> str:
    """A URL as SQLAlchemy, Heroku or libpq spell it, as libpq spells it. Raises `ValueError` for other databases."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgres", "postgresql"):
        raise ValueError(f"a database URL must start with postgresql://, not with {scheme}://")
    return f"postgresql://{rest}"


def engine(url: str) -> sqlalchemy.Engine:
    """A SQLAlchemy engine, in UTC. Raises `DatabaseUnreachable` at once if nobody answers."""
    import sqlalchemy

    made = sqlalchemy.create_engine(
        libpq_url(url).replace("postgresql://", "postgresql+psycopg2://", 1),
        connect_args={"options": "-c timezone=UTC"},
        pool_pre_ping=True,  # a server may have been started again since
    )
    try:
        made.connect().close()
    except sqlalchemy.exc.OperationalError as error:
        shown = made.url.render_as_string(hide_password=True)
        raise DatabaseUnreachable(f"cannot connect to {shown}: {str(error.orig).strip()}") from None
    return made


def _embedded_url(settings: Settings, database: str) -> str:
    return _embedded(settings).url(database)


def _embedded(settings: Settings) -> EmbeddedServer:
    from bid_assets.app_db.embedded import server

    return server(settings.postgres_data or settings.home / "postgres", home=private_home(settings.home))
