"""Every connection to PostgreSQL is made here: what its URL means, what holds in its sessions, and how long it may be silent.

- The options of a URL (`?options=-csearch_path%3Dapp`) hold beside ours. They are not sent at start-up, which a pooler such as
  PgBouncer refuses or ignores, but set: for the session where it is ours alone, for each transaction through a pooler, which lends
  the session to others.
  `arrow_connections.py` does the same for ADBC, which takes longer to load.
- A connection that is silent for longer than its deadline is shut down (`socket_deadlines.py`).
- No message holds a password.

What is asked over the connections is their users' business; which database is meant is in `database.py`.
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
_PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "fallback_application_name": "bid_assets",
}
"""Of libpq, where the URL does not say otherwise: a server that is gone without a word is noticed within half a minute."""

REQUIRED = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1"}
"""What our queries and the reading of their answers rest on, whatever the URL or the role say."""

NO_SERVER_DEADLINES = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}
"""For long reading, as pg_dump has it: a role's limits are meant for its everyday; those of the URL hold."""

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
    parsed(f"postgresql://{rest}")
    return f"postgresql://{rest}"


def parsed(url: str) -> dict[str, str]:
    """libpq's connection parameters by name. Raises `MalformedUrlError`."""
    try:
        parameters: dict[str, str] = psycopg2.extensions.parse_dsn(url)
    except psycopg2.ProgrammingError:
        parameters = {"port": "unreadable"}
    ports, password = parameters.get("port", "").split(","), "password" in parameters
    split_wrongly = "@" in parameters.get("host", "") or ("@" in parameters.get("dbname", "") and not password)
    if split_wrongly or not all(port.isdecimal() or not port for port in ports):
        raise MalformedUrlError(
            "this is not a URL as libpq reads it: postgresql://user:password@host:port/database?name=value, with special characters "
            "of user, password and values percent-encoded (@ is %40, / is %2F, % is %25)"
        )
    return parameters


def without_password(url: str, text: object | None = None) -> str:
    """`text` (the URL itself, where none is given) as it may be shown: the URL's password is starred wherever it occurs."""
    shown = str(url if text is None else text).strip()
    try:
        known = parsed(url)
    except MalformedUrlError:  # any part of it may be the password
        return shown.replace(url, "(a malformed URL)")
    secrets = {known.get("password", ""), known.get("sslpassword", "")}
    secrets |= set(re.findall(r"[?&](?:ssl)?password=([^&#]+)", url))
    with suppress(ValueError):
        secrets.add(urlsplit(url).password or "")
    for secret in sorted({spelling for each in secrets for spelling in (each, unquote(each), quote(unquote(each)))} - {""}):
        shown = re.sub(rf"(?<=:){re.escape(secret)}(?=@)|(?<=password=){re.escape(secret)}", "***", shown)
        shown = shown.replace(secret, "***") if len(secret) > 3 else shown
    return shown


def url_with_schema(url: str, schema: str | None) -> str:
    """The URL with a search path of this schema, then public, for what extensions have there."""
    if schema is None:
        return url
    path = '"' + schema.replace('"', '""') + '"'
    known = parsed(url)
    escaped = re.sub(r"([\\\s])", r"\\\1", f"{path},public")
    options = f"{known.get('options', '')} -csearch_path={escaped}".strip()
    bare = re.sub(r"(?<=[?&])options=[^&#]*&?", "", url).rstrip("?&")
    return f"{bare}{'&' if '?' in bare else '?'}options={quote(options, safe='')}"


def parameters_of(options: str) -> dict[str, str]:
    """The run-time parameters in libpq's `options`, by name. Raises `MalformedUrlError` for other switches of the server."""
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\\\s])+", options)]
    given: dict[str, str] = {}
    pending = iter(words)
    for word in pending:
        text = (
            next(pending, "") if word == "-c" else word.removeprefix("-c") if word.startswith("-c") else word.removeprefix("--")
        )
        name, separator, value = text.partition("=")
        if not separator or not (word.startswith(("-c", "--"))):
            raise MalformedUrlError("`options` of a database URL may hold -c name=value and --name=value only")
        given[name.replace("-", "_").lower()] = value
    return given


class Cursor(psycopg2.extensions.cursor):
    """A cursor whose calls end by the connection's deadline, with `psycopg2.OperationalError`."""

    connection: Connection

    def execute(self, query: Any, parameters: Any = None) -> None:
        """As in psycopg2."""
        with self.connection.watch():
            super().execute(query, parameters)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """As in psycopg2."""
        with self.connection.watch():
            super().copy_expert(sql, file, size)


class Connection(psycopg2.extensions.connection):
    """A psycopg2 connection that nobody waits for beyond `silence` seconds at a time."""

    silence = SILENCE_SECONDS
    pooled = False
    """Whether a pooler stands between, which may lend the server's session to others after every transaction."""
    options: Parameters = MappingProxyType({})
    """The parameters of the URL."""

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """As in psycopg2."""
        return super().cursor(*arguments, **{"cursor_factory": Cursor, **options})

    def commit(self) -> None:
        """As in psycopg2."""
        with self.watch():
            super().commit()

    def rollback(self) -> None:
        """As in psycopg2."""
        with self.watch():
            super().rollback()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """What is called in this block ends by the deadline."""
        wait = Deadline(self.silence, lambda: [duplicate(self.fileno())])
        try:
            with wait:
                yield
        except psycopg2.Error:
            if not wait.expired:
                raise
        if wait.expired:
            raise psycopg2.OperationalError(f"the database has not answered for {self.silence:g} s")


def watched(silence: float) -> Any:
    """A `connection_factory` for psycopg2, with this deadline."""

    def make(dsn: str, *arguments: Any, **options: Any) -> Connection:
        made = Connection(dsn, *arguments, **options)
        made.silence = silence
        return made

    return make


def patient(parameters: Parameters) -> dict[str, str]:
    """libpq's parameters with our deadlines where they have none."""
    return {**_PATIENCE, **parameters}


def connect(url: str, *, silence: float = SILENCE_SECONDS, defaults: Parameters | None = None) -> Connection:
    """A connection in autocommit, with the parameters of the URL and ours in force where the session is its own.

    `defaults` hold where the URL does not say otherwise. Raises `DatabaseUnreachableError`, and `DatabaseRefusalError` where the server
    does not take an option of the URL.
    """
    parameters = patient(parsed(url))
    options = parameters_of(parameters.pop("options", ""))
    try:
        made: Connection = psycopg2.connect(
            psycopg2.extensions.make_dsn(**{**parameters, "client_encoding": "UTF8"}),
            connection_factory=watched(min(silence, CONNECTING_SECONDS)),
        )
    except psycopg2.Error as error:
        raise DatabaseUnreachableError(f"cannot connect to {without_password(url)}: {without_password(url, error)}") from None
    try:
        made.autocommit = True
        made.options = {**(defaults or {}), **options}
        with explaining(url), made.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            # a pooler makes up a process id of its own for each of its clients
            made.pooled = cursor.fetchone()[0] != made.info.backend_pid
            if not made.pooled:
                cursor.execute(setting({**made.options, **REQUIRED}, local=False))
        made.silence = silence
        return made
    except BaseException:
        made.close()
        raise


def setting(parameters: Parameters, *, local: bool) -> str:
    """One statement that sets parameters of the session, or of the transaction. Those that this server has not are left out,
    where they are among our own."""
    calls = []
    for name, value in parameters.items():
        call = f"set_config({_literal(name)}, {_literal(value)}, {str(local).lower()})"
        if name in NO_SERVER_DEADLINES:
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
    with closing(connect(url, silence=silence)) as connection, explaining(url), connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute(setting(reading_parameters(connection.options), local=True))
        yield cursor
        cursor.execute("ROLLBACK")


def reading_parameters(options: Parameters) -> dict[str, str]:
    """What holds while much is read: those of the URL before the absence of time limits, and ours before all."""
    return {**NO_SERVER_DEADLINES, "jit": "off", **options, **REQUIRED}


@contextmanager
def explaining(url: str) -> Iterator[None]:
    """Errors of the drivers become `DatabaseUnreachableError`, `ContractError` or `DatabaseRefusalError`, without a password."""
    try:
        yield
    except psycopg2.Error as error:
        raise explained(url, error) from None
    except Exception as error:
        from_adbc = type(error).__module__.partition(".")[0] == "adbc_driver_manager"
        if not from_adbc and not (isinstance(error, OSError) and "[libpq]" in str(error)):
            raise
        raise explained(url, error) from None


def explained(url: str, error: Exception) -> Exception:
    """What an error of psycopg2 or ADBC means to us."""
    state = str(getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "")
    diagnosis = getattr(error, "diag", None)
    said = without_password(url, (diagnosis and diagnosis.message_primary) or first_line(error))
    if state in _CHANGED:
        return ContractError(f"the tables of the application's database are no longer what they were: {said}")
    if "invalid byte sequence for encoding" in said:
        return DatabaseRefusalError(
            f"the database holds text that is not UTF-8 ({said}). Its encoding is SQL_ASCII, which checks nothing: mend that text, or "
            "restore a dump into a database of the encoding that it really is in"
        )
    if state == "57014":
        return DatabaseRefusalError(
            f"the database ended a query ({said}): it took longer than the role, the URL's options or, for a lookup, "
            "BID_ASSETS_SERVING_LOOKUP_SECONDS let it"
        )
    lost = isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) or _LOST.search(said) is not None
    if state[:2] in ("08", "57") or (lost and not state) or state in ("25P03", "53300"):
        return DatabaseUnreachableError(f"the database does not answer: {said}")
    return DatabaseRefusalError(f"the database refuses a query: {said}" + (f" (SQLSTATE {state})" if state else ""))


_CHANGED = {"42703", "42P01", "42883", "42804", "0A000", "3F000", "42846", "42725", "26000"}
"""SQLSTATEs of a query that was made for other tables: a column, table, operator, cast or schema is not there, a plan is outdated."""


_LOST = re.compile(
    "server closed the connection|connection to server|no connection to the server|could not (send|receive) data|SSL"
)


def first_line(error: Exception) -> str:
    """What an error says, without what the driver adds below."""
    return next((line for line in str(error).strip().splitlines() if line.strip()), repr(error))


def _literal(text: str) -> str:
    """A string as SQL, whatever `standard_conforming_strings` says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def engine(url: str, *, silence: float = SILENCE_SECONDS) -> sqlalchemy.Engine:
    """A SQLAlchemy engine, in UTC. Raises `DatabaseUnreachableError` at once if nobody answers."""
    import sqlalchemy

    url = libpq_url(url)

    def open_connection() -> Connection:
        made = connect(url, silence=silence)
        made.autocommit = False
        return made

    made = sqlalchemy.create_engine("postgresql+psycopg2://", creator=open_connection, pool_pre_ping=True)

    @sqlalchemy.event.listens_for(made, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        if driver.pooled and not driver.autocommit:
            connection.exec_driver_sql(setting({**driver.options, **REQUIRED}, local=True).replace("%", "%%"))

    made.connect().close()
    return made


def watch_every_engine(silence: float) -> None:
    """From now on every psycopg2 connection of SQLAlchemy in this process has our deadlines: Dagster's engines are its own."""
    import sqlalchemy

    global _engines_silence
    if _engines_silence is None:
        sqlalchemy.event.listen(sqlalchemy.Engine, "do_connect", _with_deadlines)
    _engines_silence = silence


_engines_silence: float | None = None


def _with_deadlines(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> None:
    if dialect.driver == "psycopg2" and _engines_silence is not None:
        for name, value in {**_PATIENCE, "connection_factory": watched(_engines_silence)}.items():
            parameters.setdefault(name, value)
