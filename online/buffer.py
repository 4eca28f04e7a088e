"""The buffer: events in one SQL table, SQLite by default, any SQLAlchemy URL by choice."""

import math
import os
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from online import OnlineError
from online.event import CONTESTED, SAMPLED, Event
from online.options import BufferSettings

SCHEMA_VERSION = "2"
_DAY = 86_400.0
_CHUNK = 500  # ids in one statement: databases bound the number of parameters
_CONNECT_TIMEOUT_S = 10
_BUSY_TIMEOUT_MS = 5_000
_CREATE_ATTEMPTS = 40
_CREATE_PAUSE_S = 0.05
_SECRET_QUERY = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)

_metadata = sa.MetaData()
_meta = sa.Table("meta", _metadata, sa.Column("key", sa.String(32), primary_key=True), sa.Column("value", sa.String(64)))
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("adapter", sa.String(32), nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("prompt_tokens", sa.LargeBinary, nullable=False),
    sa.Column("response", sa.Text, nullable=False),
    sa.Column("response_tokens", sa.LargeBinary, nullable=False),
    sa.Column("entropies", sa.LargeBinary, nullable=False),
    sa.Column("entropy_mean", sa.Double),
    sa.Column("refusal_mass", sa.Double),
    sa.Column("finish_reason", sa.String(32), nullable=False),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("model", sa.String(80), nullable=False),
    sa.Index("events_time", "time", "id"),
    sa.Index("events_verdict_time", "verdict", "time", "id"),
)


class BufferError(OnlineError):
    """The buffer's database cannot be used."""


def masked(url: str) -> str:
    """The URL without its passwords, for messages."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return re.sub(r"//[^@/]*@", "//***@", url)
    query = {name: "***" if _SECRET_QUERY.search(name) else value for name, value in parsed.query.items()}
    return parsed.set(query=query).render_as_string(hide_password=True)


class Buffer:
    """The events of one database, open to several threads and, an object each, to several processes.

    Every method raises BufferError where the database is unreachable, corrupt, full or of another schema.
    """

    def __init__(self, url: str, settings: BufferSettings) -> None:
        self._settings = settings
        self._name = masked(url)
        try:
            self._url = make_url(url)
        except (ArgumentError, ValueError):
            raise BufferError(
                f"{self._name} is no database URL; write one such as sqlite:////path/to/buffer.sqlite or "
                "postgresql+psycopg://user:password@host/name."
            ) from None
        self._file = self._sqlite_file(self._url)
        self._lock = threading.Lock()
        self._engine = self._create_engine()
        try:
            self._open()
        except BufferError:
            self._engine.dispose()
            raise

    def _sqlite_file(self, url: URL) -> str | None:
        if url.get_backend_name() != "sqlite":
            return None
        if url.database in (None, "", ":memory:"):
            raise BufferError(f"{self._name} would forget all at exit; name a file: sqlite:////path/to/buffer.sqlite.")
        return os.path.abspath(str(url.database))

    def _create_engine(self) -> sa.Engine:
        arguments: dict[str, Any] = {}
        if self._file is None:
            arguments["pool_pre_ping"] = True
            if self._url.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
                arguments["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
        try:
            engine = sa.create_engine(self._url, **arguments)
        except (ArgumentError, ImportError, TypeError) as error:
            raise BufferError(f"no driver for {self._name} ({_first_line(error)}); install the one its URL names.") from None
        if self._file is not None:
            sa.event.listen(engine, "connect", _prepare_sqlite)
        return engine

    def _open(self) -> None:
        with self._translated(), self._engine.connect() as connection:
            found = sa.inspect(connection).get_table_names()
            if "meta" not in found and "events" in found:
                raise BufferError(f"{self._name} holds an events table that is not sirl's; choose another --buffer-url.")
            if "meta" not in found:
                self._create_schema(connection)
            version = connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "schema"))
            if version != SCHEMA_VERSION:
                raise BufferError(
                    f"{self._name} has schema {version}, not {SCHEMA_VERSION}; use the sirl that wrote it "
                    "or choose another --buffer-url."
                )
        self._inode = self._current_inode()

    def _create_schema(self, connection: sa.Connection) -> None:
        # Another process may be at it too: the loser of that race finds the tables on its next look.
        for attempt in range(_CREATE_ATTEMPTS):
            try:
                if self._file is not None:
                    # In WAL mode, which the file keeps, a commit outlives the death of its process.
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                if "meta" not in sa.inspect(connection).get_table_names():
                    _metadata.create_all(connection)
                    connection.execute(sa.insert(_meta).values(key="schema", value=SCHEMA_VERSION))
                return connection.commit()
            except DBAPIError:
                connection.rollback()
                if attempt == _CREATE_ATTEMPTS - 1:
                    raise
            time.sleep(_CREATE_PAUSE_S)

    def _current_inode(self) -> tuple[int, int] | None:
        if self._file is None:
            return None
        try:
            status = os.stat(self._file)
        except OSError:
            return (0, 0)
        return (status.st_dev, status.st_ino)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> BufferError:
        reason = _first_line(error.orig if isinstance(error, DBAPIError) and error.orig else error)
        if self._url.password:
            reason = reason.replace(str(self._url.password), "***")
        mend = "check that it is reachable and sound"
        if "malformed" in reason or "not a database" in reason:
            mend = "it is corrupt: move it away, and a new one will be begun, or restore a copy"
        elif "full" in reason:
            mend = "free some space"
        return BufferError(f"the buffer {self._name} cannot be used ({reason}); {mend}.")

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        # SQLite would go on writing into a file that was deleted or replaced, where nobody will ever read it.
        with self._lock:
            if self._current_inode() != self._inode:
                self._engine.dispose()
                self._open()
        with self._translated(), self._engine.begin() as connection:
            yield connection
        if self._current_inode() != self._inode:
            raise BufferError(f"the file of {self._name} was moved while it was written; leave it in place.")

    def append(self, events: Sequence[Event]) -> int:
        """Stores all of them or none, skipping ids that are there already; returns how many were new."""
        rows = {event.id: _row(event) for event in events}
        with self._transaction() as connection:
            for chunk in _chunks(list(rows)):
                present = connection.scalars(sa.select(_events.c.id).where(_events.c.id.in_(chunk))).all()
                for identity in present:
                    del rows[identity]
            if rows:
                connection.execute(sa.insert(_events), list(rows.values()))
        return len(rows)

    def events(
        self,
        verdicts: Collection[str] | None = None,
        since: float | None = None,
        until: float | None = None,
        adapter: str | None = None,
        model: str | None = None,
        limit: int | None = None,
        newest_first: bool = True,
    ) -> list[Event]:
        """Events with since <= time < until (unix seconds), in order of time."""
        query = sa.select(_events)
        if verdicts is not None:
            query = query.where(_events.c.verdict.in_(list(verdicts)))
        if since is not None:
            query = query.where(_events.c.time >= since)
        if until is not None:
            query = query.where(_events.c.time < until)
        if adapter is not None:
            query = query.where(_events.c.adapter == adapter)
        if model is not None:
            query = query.where(_events.c.model == model)
        columns = (_events.c.time, _events.c.id)
        query = query.order_by(*(column.desc() if newest_first else column.asc() for column in columns))
        if limit is not None:
            query = query.limit(limit)
        with self._transaction() as connection:
            return [_event(row) for row in connection.execute(query).mappings()]

    def get(self, identity: str) -> Event | None:
        return next(iter(self.named([identity])), None)

    def named(self, identities: Collection[str]) -> list[Event]:
        """Those of these ids that are there, in no order."""
        with self._transaction() as connection:
            return [
                _event(row)
                for chunk in _chunks(list(identities))
                for row in connection.execute(sa.select(_events).where(_events.c.id.in_(chunk))).mappings()
            ]

    def delete(self, identities: Collection[str]) -> int:
        """Returns how many there were."""
        with self._transaction() as connection:
            return sum(
                connection.execute(sa.delete(_events).where(_events.c.id.in_(chunk))).rowcount
                for chunk in _chunks(list(identities))
            )

    def of_client(self, client: str) -> list[str]:
        """The ids of a client's events (its hash), the oldest first."""
        query = sa.select(_events.c.id).where(_events.c.client == client).order_by(_events.c.time, _events.c.id)
        with self._transaction() as connection:
            return list(connection.scalars(query))

    def scrub(self) -> None:
        """Overwrites what deleted events left in an SQLite file and its log; another database keeps its own house."""
        if self._file is not None:
            with self._translated(), self._engine.connect() as connection:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def counts(self) -> dict[str, int]:
        """Events by verdict."""
        query = sa.select(_events.c.verdict, sa.func.count()).group_by(_events.c.verdict)
        with self._transaction() as connection:
            return {verdict: count for verdict, count in connection.execute(query)}

    def contested_since(self, moment: float, model: str) -> int:
        """Risky and contested events of a base model (its fingerprint) after `moment` (unix seconds)."""
        wanted = _events.c.verdict.in_(CONTESTED), _events.c.time > moment, _events.c.model == model
        query = sa.select(sa.func.count()).where(*wanted)
        with self._transaction() as connection:
            return connection.scalar(query) or 0

    def prune(self, now: float) -> int:
        """Drops what is too old, then the oldest sampled events over their cap, then the oldest of all."""
        settings = self._settings
        with self._transaction() as connection:
            dropped = connection.execute(
                sa.delete(_events).where(_events.c.time < now - settings.max_age_days * _DAY)
            ).rowcount
            sampled = _events.c.verdict.in_(SAMPLED)
            dropped += _drop_oldest(connection, sampled, settings.plain_max)
            return dropped + _drop_oldest(connection, sa.true(), settings.max_events)

    def close(self) -> None:
        self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    # Enough in WAL mode for a process that dies; only a power cut can lose the last commits.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _drop_oldest(connection: sa.Connection, among: sa.ColumnElement[bool], keep: int) -> int:
    newest_first = (_events.c.time.desc(), _events.c.id.desc())
    query = sa.select(_events.c.time, _events.c.id).where(among).order_by(*newest_first).offset(keep).limit(1)
    last = connection.execute(query).first()
    if last is None:
        return 0
    older = sa.or_(_events.c.time < last.time, sa.and_(_events.c.time == last.time, _events.c.id <= last.id))
    return connection.execute(sa.delete(_events).where(among, older)).rowcount


def _chunks(identities: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(identities), _CHUNK):
        yield identities[start : start + _CHUNK]


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _row(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "time": event.time,
        "adapter": event.adapter,
        "verdict": event.verdict,
        "prompt": event.prompt,
        "prompt_tokens": np.asarray(event.prompt_tokens, dtype="<i4").tobytes(),
        "response": event.response,
        "response_tokens": np.asarray(event.response_tokens, dtype="<i4").tobytes(),
        "entropies": np.asarray(event.entropies, dtype="<f4").tobytes(),
        # SQLite has no NaN.
        "entropy_mean": None if math.isnan(event.entropy_mean) else event.entropy_mean,
        "refusal_mass": event.refusal_mass,
        "finish_reason": event.finish_reason,
        "client": event.client,
        "model": event.model,
    }


def _event(row: Mapping[Any, Any]) -> Event:
    fields = dict(row)
    for name, dtype in (("prompt_tokens", "<i4"), ("response_tokens", "<i4"), ("entropies", "<f4")):
        fields[name] = tuple(np.frombuffer(fields[name], dtype=dtype).tolist())
    if fields["entropy_mean"] is None:
        fields["entropy_mean"] = math.nan
    return Event(**fields)
