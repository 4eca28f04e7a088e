"""The buffer: events in one SQL table, SQLite by default, any SQLAlchemy URL by choice."""

import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from guard.errors import SirlError
from online.events import retention, schema
from online.events.event import CONTESTED, Event
from online.settings.groups import BufferSettings
from online.state.filesystem import is_network, kind

log = logging.getLogger("sirl")

T = TypeVar("T")

_DAY = 86_400.0
_CONNECT_TIMEOUT_S = 10
_BUSY_TIMEOUT_MS = 5_000
_CREATE_ATTEMPTS = 40
_CREATE_PAUSE_S = 0.05
_SECRET_QUERY = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
_events, _reviews, _clients, _forgotten = schema.events, schema.reviews, schema.clients, schema.forgotten
_ANSWERS = ("response", "response_tokens", "entropies")
_ASKED = [column for column in _events.c if column.name not in _ANSWERS]
_PROMPT_BYTES = sa.func.length(_events.c.prompt_tokens)
"""Four a token."""
_REFUSALS = (sa.exc.DataError, sa.exc.IntegrityError)
_REMARK = (
    "the buffer {} lies on a network file system ({}): it is written without a write-ahead log, which is slower, and one "
    "machine at a time should use it; a database server of its own is better (buffer.url)."
)


class BufferError(SirlError):
    """The buffer's database cannot be used."""


class EarlierSchemaError(BufferError):
    """The database has an earlier schema, and was to be opened as it is."""


class RefusedError(BufferError):
    """The database is well, and refuses what an event holds."""


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

    A database of an earlier schema is brought up to date as it is opened, or with `upgrade` False raises EarlierSchemaError.
    Every method raises BufferError where the database is unreachable, corrupt, full or of a later schema.
    """

    def __init__(self, url: str, settings: BufferSettings, *, upgrade: bool = True) -> None:
        self._settings, self._upgrade = settings, upgrade
        self._name = masked(url)
        try:
            self._url = make_url(url)
        except (ArgumentError, ValueError):
            raise BufferError(
                f"{self._name} is no database URL; write one such as sqlite:////path/to/buffer.sqlite or "
                "postgresql+psycopg://user:password@host/name."
            ) from None
        self._file = self._sqlite_file(self._url)
        under = "" if self._file is None else kind(Path(self._file).parent)
        self.remark = _REMARK.format(self._name, under) if is_network(under) else ""
        """What there is to say of where it lies."""
        self._lock, self._synchronous = threading.Lock(), "FULL"
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
            sa.event.listen(engine, "connect", self._prepare_sqlite)
        return engine

    def _prepare_sqlite(self, connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        # A commit outlives the death of its process; with a log and NORMAL only a power cut can lose the last ones.
        cursor.execute(f"PRAGMA synchronous={self._synchronous}")
        cursor.close()

    def _open(self) -> None:
        with self._translated(), self._engine.connect() as connection:
            found = sa.inspect(connection).get_table_names()
            if "meta" not in found and "events" in found:
                raise BufferError(f"{self._name} holds an events table that is not sirl's; choose another --buffer-url.")
            if self._file is not None:
                _patiently(connection, partial(self._choose_journal, new="meta" not in found))
            if "meta" not in found:
                _patiently(connection, self._make_schema)
            if (earlier := self._found_schema(connection)) < schema.VERSION:
                _patiently(connection, schema.upgrade)
                log.info("%s was brought from schema %d to %d", self._name, earlier, schema.VERSION)
            self._most = schema.largest(connection)
        self._inode = self._current_inode()

    def _choose_journal(self, connection: sa.Connection, *, new: bool) -> None:
        # A write-ahead log needs memory that all processes share, which two machines that mount one file system do not. A
        # file without one stays so: processes that see its place differently would change it back and forth.
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        wanted = "delete" if self.remark else "wal" if new else mode
        if mode != wanted:
            mode = connection.exec_driver_sql(f"PRAGMA journal_mode={wanted}").scalar()
        self._synchronous = "NORMAL" if mode == "wal" else "FULL"
        connection.exec_driver_sql(f"PRAGMA synchronous={self._synchronous}")

    def _found_schema(self, connection: sa.Connection) -> int:
        """The number of the schema that is there. Raises BufferError where it cannot, or is not to, be brought to ours."""
        found, ours = schema.version(connection), schema.VERSION
        if found is None or not (found.isascii() and found.isdecimal()):
            raise BufferError(f"{self._name} has schema {found}, which no sirl-guard wrote; choose another --buffer-url.")
        if int(found) > ours:
            raise BufferError(
                f"{self._name} was written by a newer sirl-guard (it has schema {found}; this one reads up to {ours}): "
                "upgrade this one, or choose another --buffer-url."
            )
        if int(found) < ours and not self._upgrade:
            raise EarlierSchemaError(
                f"{self._name} has schema {found}, and the next server or command that opens it brings it to {ours}: copy "
                "it before, if you may want to go back."
            )
        return int(found)

    def _make_schema(self, connection: sa.Connection) -> None:
        if self._file is not None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if schema.version(connection) is None:
            schema.create(connection, time.time() - self._settings.max_age_days * _DAY)

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
            if self._file is not None and self._url.password:
                mend = f"its passphrase is another one, or {mend}"
        elif "full" in reason:
            mend = "free some space"
        return BufferError(f"the buffer {self._name} cannot be used ({reason}); {mend}.")

    def _refusal(self, error: Exception) -> RefusedError:
        # What a database says of what it refuses may quote it.
        code = next((f" {part}" for part in getattr(getattr(error, "orig", None), "args", ()) if isinstance(part, int)), "")
        return RefusedError(f"the buffer {self._name} refuses what an event holds ({type(error).__name__}{code}).")

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
        """Stores all of them or none, skipping ids that are there already and what is forgotten; returns how many were new.

        Raises RefusedError where what one of them holds is refused, and BufferError.
        """
        try:
            return self._append(events)
        except BufferError as error:
            if isinstance(error.__cause__, _REFUSALS):
                raise self._refusal(error.__cause__) from error.__cause__
            raise
        except (ValueError, TypeError, OverflowError) as error:  # of the driver, which cannot send it
            raise self._refusal(error) from error

    def _append(self, events: Sequence[Event]) -> int:
        with self._transaction() as connection:
            schema.lock(connection, shared=True)
            rows = {event.id: schema.row(event) for event in schema.not_forgotten(connection, events)}
            for chunk in schema.chunks(list(rows)):
                present = connection.scalars(sa.select(_events.c.id).where(_events.c.id.in_(chunk))).all()
                for identity in present:
                    del rows[identity]
            if rows:
                for group in schema.by_size(rows.values(), self._most):
                    connection.execute(sa.insert(_events), group)
                _remember(connection, rows.values())
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
            return [schema.event(row) for row in connection.execute(query).mappings()]

    def in_turns(self, model: str, until: float, most: int, longest: int | None, taken: Callable[[Event], T]) -> list[T]:
        """Events before `until` (unix time, seconds) with a prompt of 1 to `longest` tokens (None: of any number), at most
        `most`, in turns and without their responses; none of an excluded client. taken: what is kept of each, one at a time,
        for long prompts together may be too large for the memory."""
        size = _PROMPT_BYTES >= 1 if longest is None else _PROMPT_BYTES.between(1, 4 * longest)
        turns = retention.in_turns(*_before(model, until), size)
        query = sa.select(*_ASKED).join(turns, _events.c.id == turns.c.id).where(turns.c.place <= most)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(turns.c.place)).mappings()
            return [taken(_unanswered(row)) for row in rows]

    def longer(self, model: str, until: float, longest: int, most: int) -> tuple[int, list[Event]]:
        """How many distinct prompts of more than `longest` tokens came before `until` (unix time, seconds), and the newest
        events with one, at most `most`, without their responses; none of an excluded client."""
        wanted = *_before(model, until), _PROMPT_BYTES > 4 * longest
        count = sa.select(sa.func.count(_events.c.prompt_tokens.distinct())).where(*wanted)
        newest = sa.select(*_ASKED).where(*wanted).order_by(_events.c.time.desc(), _events.c.id.desc()).limit(most)
        with self._transaction() as connection:
            return connection.scalar(count) or 0, [_unanswered(row) for row in connection.execute(newest).mappings()]

    def get(self, identity: str) -> Event | None:
        return next(iter(self.named([identity])), None)

    def named(self, identities: Collection[str]) -> list[Event]:
        """Those of these ids that are there, in no order."""
        with self._transaction() as connection:
            return [
                schema.event(row)
                for chunk in schema.chunks(list(identities))
                for row in connection.execute(sa.select(_events).where(_events.c.id.in_(chunk))).mappings()
            ]

    def delete(self, identities: Collection[str]) -> int:
        """Returns how many there were."""
        with self._transaction() as connection:
            return sum(
                connection.execute(sa.delete(_events).where(_events.c.id.in_(chunk))).rowcount
                for chunk in schema.chunks(list(identities))
            )

    def of_client(self, client: str) -> list[str]:
        """The ids of a client's events (its hash), the oldest first."""
        query = sa.select(_events.c.id).where(_events.c.client == client).order_by(_events.c.time, _events.c.id)
        with self._transaction() as connection:
            return list(connection.scalars(query))

    def first_seen(self) -> dict[str, float]:
        """When each client first came (unix time, seconds), by its hash, though its events may be gone."""
        with self._transaction() as connection:
            return {row.name: row.first for row in connection.execute(sa.select(_clients))}

    def bury(self, clients: Collection[str], identities: Collection[str], until: float) -> None:
        """From now on neither the events of these ids come in any more, nor what these clients (hashes) asked before `until`
        (unix time, seconds), from whatever queue, journal or answer under way. What is there stays until it is deleted."""
        names = [("client", name) for name in clients] + [("event", name) for name in identities]
        with self._transaction() as connection:
            schema.lock(connection)
            for kind_, name in names:
                same = _forgotten.c.kind == kind_, _forgotten.c.name == name
                connection.execute(sa.delete(_forgotten).where(*same))
                connection.execute(sa.insert(_forgotten).values(kind=kind_, name=name, until=until))

    def unsee(self, clients: Collection[str]) -> None:
        """Forgets that clients ever came."""
        with self._transaction() as connection:
            for chunk in schema.chunks(list(clients)):
                connection.execute(sa.delete(_clients).where(_clients.c.name.in_(chunk)))

    def replace(self, events: Sequence[Event]) -> None:
        """Puts each in the place of the event of its id, where that is there still."""
        with self._transaction() as connection:
            for event in events:
                connection.execute(sa.update(_events).where(_events.c.id == event.id).values(schema.row(event)))

    def reviews(self, kind: str) -> dict[str, str]:
        """What operators decided of "prompt"s or "client"s, by hash."""
        query = sa.select(_reviews.c.name, _reviews.c.decision).where(_reviews.c.kind == kind)
        with self._transaction() as connection:
            return {name: decision for name, decision in connection.execute(query)}

    def review(self, kind: str, names: Collection[str], decision: str | None) -> None:
        """Puts a decision on record in the place of what was decided before; None takes it back."""
        with self._transaction() as connection:
            for chunk in schema.chunks(list(names)):
                connection.execute(sa.delete(_reviews).where(_reviews.c.kind == kind, _reviews.c.name.in_(chunk)))
                if decision is not None:
                    rows = [{"kind": kind, "name": name, "decision": decision} for name in chunk]
                    connection.execute(sa.insert(_reviews), rows)

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

    def contested_since(self, moment: float, model: str, until: float = math.inf) -> int:
        """Risky and contested events of a base model (its fingerprint) after `moment` and not after `until` (unix seconds):
        what a wrong clock put into the future is new when that has come."""
        wanted = [_events.c.verdict.in_(CONTESTED), _events.c.time > moment, _events.c.model == model]
        if until < math.inf:
            wanted.append(_events.c.time <= until)
        query = sa.select(sa.func.count()).where(*wanted)
        with self._transaction() as connection:
            return connection.scalar(query) or 0

    def prune(self, now: float, elapsed: float) -> int:
        """Drops what the settings no longer let it keep (retention.prune) at unix time `now`, `elapsed` seconds after the
        last call; returns how many events."""
        with self._transaction() as connection:
            return retention.prune(connection, self._settings, now, elapsed)

    def close(self) -> None:
        self._engine.dispose()


def _patiently(connection: sa.Connection, work: Callable[[sa.Connection], None]) -> None:
    """Does it and commits. Another process may be at it too: the loser of that race finds the work done on its next look."""
    for attempt in range(_CREATE_ATTEMPTS):
        try:
            work(connection)
            return connection.commit()
        except DBAPIError:
            connection.rollback()
            if attempt == _CREATE_ATTEMPTS - 1:
                raise
        time.sleep(_CREATE_PAUSE_S)


def _remember(connection: sa.Connection, rows: Collection[Mapping[str, Any]]) -> None:
    """Notes when clients first came that were not there before."""
    first: dict[str, float] = {}
    for row in rows:
        first[row["client"]] = min(row["time"], first.get(row["client"], row["time"]))
    for chunk in schema.chunks(list(first)):
        for client in connection.scalars(sa.select(_clients.c.name).where(_clients.c.name.in_(chunk))):
            del first[client]
    if first:
        connection.execute(sa.insert(_clients), [{"name": name, "first": moment} for name, moment in first.items()])


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _before(model: str, until: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Of a model, before a time, of a client that is not excluded."""
    out = sa.select(_reviews.c.name).where(_reviews.c.kind == "client", _reviews.c.decision == "excluded")
    return _events.c.model == model, _events.c.time < until, _events.c.client.not_in(out)


def _unanswered(row: sa.RowMapping) -> Event:
    """The event of a row that was read without its response."""
    return schema.event({**row, "response": "", "response_tokens": b"", "entropies": b""})
