"""Connections to PostgreSQL: parsing of URLs, session parameters, timeouts, and translation of the drivers' errors.

- The options of a URL (`?options=-csearch_path%3Dapp`) hold beside ours. They are not sent at start-up, which a pooler such as
  PgBouncer refuses or ignores, but set: for the session where it is ours alone, for each transaction through a pooler, which
  lends the session to others. `arrow_connections.py` does the same for ADBC, which takes longer to load.
- A connection that is silent for longer than its deadline is shut down (`socket_deadlines.py`).
- No message holds a password.

The queries are in other modules; which database is used is in `database.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import psycopg2
import psycopg2.extensions

from bid_assets.app_db.contract import ContractError
from bid_assets.app_db.socket_deadlines import Deadline, duplicate

if TYPE_CHECKING:
    import sqlalchemy

SILENCE_SECONDS = 300.0
"""How long a statement may take without a word from the server, where nothing else is set."""

CONNECTING_SECONDS = 15.0  # libpq's own deadline is below; a driver asks a few things beyond it
_TIMEOUTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "fallback_application_name": "bid_assets",
}
"""Of libpq, where the URL does not say otherwise: a server that is gone without a word is noticed within half a minute."""

REQUIRED_PARAMETERS = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1"}
"""Session parameters that our queries and the parsing of their results need, whatever the URL or the role say."""

NO_SERVER_TIMEOUTS = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}
"""For bulk reads, as pg_dump does: a role's timeouts are meant for its everyday queries; those of the URL hold."""

Parameters = Mapping[str, str]
"""PostgreSQL's run-time parameters by name."""


class DatabaseUnreachableError(RuntimeError):
    """No connection could be made, or it was lost or silent; the message does not hold the password."""


class DatabaseRefusalError(RuntimeError):
    """The server answered with an error: a right that is missing, a time limit, a type that does not fit."""


DATABASE_ERRORS = (DatabaseUnreachableError, DatabaseRefusalError, ContractError)
"""What any use of the application's database may raise."""


class MalformedUrlError(ValueError):
    """A database URL that cannot be used. The message quotes nothing of it: any part might be the password."""


def libpq_url(url: str) -> str:
    """A URL as SQLAlchemy, Heroku or libpq spell it, as libpq spells it. Raises `MalformedUrlError`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgres", "postgresql"):
        named = f", not with {scheme}://" if separator and scheme.isalnum() else ""
        raise MalformedUrlError(f"a database URL must start with postgresql://{named}")
    parse_url(f"postgresql://{rest}")
    return f"postgresql://{rest}"


def parse_url(url: str) -> dict[str, str]:
    """libpq's connection parameters by name. Raises `MalformedUrlError`."""
    try:
        parameters: dict[str, str] = psycopg2.extensions.parse_dsn(url)
    except psycopg2.ProgrammingError:
        parameters = {"port": "unreadable"}
    ports, password = parameters.get("port", "").split(","), "password" in parameters
    split_wrongly = "@" in parameters.get("host", "") or ("@" in parameters.get("dbname", "") and not password)
    if split_wrongly or not all(port.isdecimal() or not port for port in ports):
        raise MalformedUrlError(
            "this is not a URL as libpq reads it: postgresql://user:password@host:port/database?name=value, with special "
            "characters of user, password and values percent-encoded (@ is %40, / is %2F, % is %25)"
        )
    return parameters


def without_password(url: str, text: object | None = None) -> str:
    """`text` (the URL itself, where none is given) as it may be shown: the URL's password is starred wherever it occurs."""
    masked = str(url if text is None else text).strip()
    try:
        parameters = parse_url(url)
    except MalformedUrlError:  # any part of it may be the password
        return masked.replace(url, "(a malformed URL)")
    secrets = {parameters.get("password", ""), parameters.get("sslpassword", "")}
    secrets |= set(re.findall(r"[?&](?:ssl)?password=([^&#]+)", url))
    with suppress(ValueError):
        secrets.add(urlsplit(url).password or "")
    for secret in sorted({spelling for each in secrets for spelling in (each, unquote(each), quote(unquote(each)))} - {""}):
        masked = re.sub(rf"(?<=:){re.escape(secret)}(?=@)|(?<=password=){re.escape(secret)}", "***", masked)
        masked = masked.replace(secret, "***") if len(secret) > 3 else masked
    return masked


def url_with_schema(url: str, schema: str | None) -> str:
    """The URL with a search path of this schema, then public, for what extensions have there."""
    if schema is None:
        return url
    path = '"' + schema.replace('"', '""') + '"'
    parameters = parse_url(url)
    escaped = re.sub(r"([\\\s])", r"\\\1", f"{path},public")
    options = f"{parameters.get('options', '')} -csearch_path={escaped}".strip()
    bare = re.sub(r"(?<=[?&])options=[^&#]*&?", "", url).rstrip("?&")
    return f"{bare}{'&' if '?' in bare else '?'}options={quote(options, safe='')}"


def parse_options(options: str) -> dict[str, str]:
    """The run-time parameters in libpq's `options`, by name. Raises `MalformedUrlError` for other switches of the server."""
    tokens = [re.sub(r"\\(.)", r"\1", token) for token in re.findall(r"(?:\\.|[^\\\s])+", options)]
    parameters: dict[str, str] = {}
    pending = iter(tokens)
    for token in pending:
        text = (
            next(pending, "")
            if token == "-c"
            else token.removeprefix("-c")
            if token.startswith("-c")
            else token.removeprefix("--")
        )
        name, separator, value = text.partition("=")
        if not separator or not (token.startswith(("-c", "--"))):
            raise MalformedUrlError("`options` of a database URL may hold -c name=value and --name=value only")
        parameters[name.replace("-", "_").lower()] = value
    return parameters


class DeadlineCursor(psycopg2.extensions.cursor):
    """A cursor whose calls end by the connection's deadline, with `psycopg2.OperationalError`."""

    connection: Connection

    def execute(self, query: Any, parameters: Any = None) -> None:
        """As in psycopg2."""
        with self.connection.deadline():
            super().execute(query, parameters)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """As in psycopg2."""
        with self.connection.deadline():
            super().copy_expert(sql, file, size)


class Connection(psycopg2.extensions.connection):
    """A psycopg2 connection on which no call waits longer than `silence` seconds for the server."""

    silence = SILENCE_SECONDS
    is_pooled = False
    """Whether a pooler stands between, which may lend the server's session to others after every transaction."""
    options: Parameters = MappingProxyType({})
    """The parameters of the URL."""

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """As in psycopg2."""
        return super().cursor(*arguments, **{"cursor_factory": DeadlineCursor, **options})

    def commit(self) -> None:
        """As in psycopg2."""
        with self.deadline():
            super().commit()

    def rollback(self) -> None:
        """As in psycopg2."""
        with self.deadline():
            super().rollback()

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Calls in this block end by the deadline."""
        wait = Deadline(self.silence, lambda: [duplicate(self.fileno())])
        try:
            with wait:
                yield
        except psycopg2.Error:
            if not wait.expired:
                raise
        if wait.expired:
            raise psycopg2.OperationalError(f"the database has not answered for {self.silence:g} s")


def factory_with_deadline(silence: float) -> Any:
    """A `connection_factory` for psycopg2, with this deadline."""

    def make(dsn: str, *arguments: Any, **options: Any) -> Connection:
        connection = Connection(dsn, *arguments, **options)
        connection.silence = silence
        return connection

    return make


def with_timeouts(parameters: Parameters) -> dict[str, str]:
    """libpq's parameters with our timeouts where they have none."""
    return {**_TIMEOUTS, **parameters}


def connect(url: str, *, silence: float = SILENCE_SECONDS, defaults: Parameters | None = None) -> Connection:
    """A connection in autocommit, with the parameters of the URL and ours in force where the session is its own.

    `defaults` hold where the URL does not say otherwise. Raises `DatabaseUnreachableError`, and `DatabaseRefusalError` where
    the server does not take an option of the URL.
    """
    parameters = with_timeouts(parse_url(url))
    options = parse_options(parameters.pop("options", ""))
    try:
        connection: Connection = psycopg2.connect(
            psycopg2.extensions.make_dsn(**{**parameters, "client_encoding": "UTF8"}),
            connection_factory=factory_with_deadline(min(silence, CONNECTING_SECONDS)),
        )
    except psycopg2.Error as error:
        raise DatabaseUnreachableError(f"cannot connect to {without_password(url)}: {without_password(url, error)}") from None
    try:
        connection.autocommit = True
        connection.options = {**(defaults or {}), **options}
        with translate_errors(url), connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            # a pooler makes up a process id of its own for each of its clients
            connection.is_pooled = cursor.fetchone()[0] != connection.info.backend_pid
            if not connection.is_pooled:
                cursor.execute(set_config({**connection.options, **REQUIRED_PARAMETERS}, local=False))
        connection.silence = silence
        return connection
    except BaseException:
        connection.close()
        raise


def set_config(parameters: Parameters, *, local: bool) -> str:
    """A statement that sets parameters of the session, or (`local`) of the transaction. Timeouts that this server does not know
    are left out."""
    calls = []
    for name, value in parameters.items():
        call = f"set_config({_literal(name)}, {_literal(value)}, {str(local).lower()})"
        if name in NO_SERVER_TIMEOUTS:
            call = f"CASE WHEN current_setting({_literal(name)}, true) IS NOT NULL THEN {call} END"
        calls.append(call)
        if local and name.startswith("default_transaction_"):  # which says nothing of the transaction that is under way
            calls.append(call.replace(_literal(name), _literal(name.removeprefix("default_"))))
    return f"SELECT {', '.join(calls)}"


@contextmanager
def snapshot(url: str, *, silence: float = SILENCE_SECONDS) -> Iterator[Any]:
    """A cursor in one REPEATABLE READ, READ ONLY transaction over a new connection, in UTC; without the server's time limits.

    Raises `DatabaseUnreachableError`, `DatabaseRefusalError`, `ContractError`.
    """
    with closing(connect(url, silence=silence)) as connection, translate_errors(url), connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute(set_config(bulk_read_parameters(connection.options), local=True))
        yield cursor
        cursor.execute("ROLLBACK")


def bulk_read_parameters(options: Parameters) -> dict[str, str]:
    """Parameters for bulk reads: no server timeouts, then the parameters of the URL, then the required ones."""
    return {**NO_SERVER_TIMEOUTS, "jit": "off", **options, **REQUIRED_PARAMETERS}


@contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Errors of the drivers become `DatabaseUnreachableError`, `ContractError` or `DatabaseRefusalError`, without a
    password."""
    try:
        yield
    except psycopg2.Error as error:
        raise translate_error(url, error) from None
    except Exception as error:
        from_adbc = type(error).__module__.partition(".")[0] == "adbc_driver_manager"
        if not from_adbc and not (isinstance(error, OSError) and "[libpq]" in str(error)):
            raise
        raise translate_error(url, error) from None


def translate_error(url: str, error: Exception) -> Exception:
    """The exception of ours for an error of psycopg2 or ADBC."""
    state = str(getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "")
    diagnosis = getattr(error, "diag", None)
    message = without_password(url, (diagnosis and diagnosis.message_primary) or first_line(error))
    if state in _TABLES_CHANGED:
        return ContractError(f"the tables of the application's database are no longer what they were: {message}")
    if "invalid byte sequence for encoding" in message:
        return DatabaseRefusalError(
            f"the database holds text that is not UTF-8 ({message}). Its encoding is SQL_ASCII, which checks nothing: mend "
            "that text, or restore a dump into a database of the encoding that it really is in"
        )
    if state == "57014":
        return DatabaseRefusalError(
            f"the database ended a query ({message}): it took longer than the role, the URL's options or, for a lookup, "
            "BID_ASSETS_SERVING_LOOKUP_SECONDS let it"
        )
    is_lost = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) or bool(_CONNECTION_LOST.search(message))
    if state[:2] in ("08", "57") or (is_lost and not state) or state in ("25P03", "53300"):
        return DatabaseUnreachableError(f"the database does not answer: {message}")
    return DatabaseRefusalError(f"the database refuses a query: {message}" + (f" (SQLSTATE {state})" if state else ""))


_TABLES_CHANGED = {"42703", "42P01", "42883", "42804", "0A000", "3F000", "42846", "42725", "26000"}
"""SQLSTATEs of a query that was made for other tables: a column, table, operator, cast or schema is not there, a plan is
outdated."""


_CONNECTION_LOST = re.compile(
    "server closed the connection|connection to server|no connection to the server|could not (send|receive) data|SSL"
)


def first_line(error: Exception) -> str:
    """The first line of an error's message, without what the driver adds below."""
    return next((line for line in str(error).strip().splitlines() if line.strip()), repr(error))


def _literal(text: str) -> str:
    """A string as SQL, whatever `standard_conforming_strings` says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def engine(url: str, *, silence: float = SILENCE_SECONDS) -> sqlalchemy.Engine:
    """A SQLAlchemy engine, in UTC. Raises `DatabaseUnreachableError` at once if nobody answers."""
    import sqlalchemy

    url = libpq_url(url)

    def open_connection() -> Connection:
        connection = connect(url, silence=silence)
        connection.autocommit = False
        return connection

    sql_engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=open_connection, pool_pre_ping=True)

    @sqlalchemy.event.listens_for(sql_engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        if driver.is_pooled and not driver.autocommit:
            connection.exec_driver_sql(set_config({**driver.options, **REQUIRED_PARAMETERS}, local=True).replace("%", "%%"))

    sql_engine.connect().close()
    return sql_engine


def add_deadlines_to_all_engines(silence: float) -> None:
    """From now on every psycopg2 connection of SQLAlchemy in this process has our deadlines: Dagster's engines are its own."""
    import sqlalchemy

    global _engines_silence
    if _engines_silence is None:
        sqlalchemy.event.listen(sqlalchemy.Engine, "do_connect", _with_deadlines)
    _engines_silence = silence


_engines_silence: float | None = None


def _with_deadlines(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
    if dialect.driver == "psycopg2" and _engines_silence is not None:
        for name, value in {**_TIMEOUTS, "connection_factory": factory_with_deadline(_engines_silence)}.items():
            parameters.setdefault(name, value)
