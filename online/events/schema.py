"""The database schema: the buffer's tables, and how an event becomes a row and a row an event."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGBLOB, LONGTEXT

from online.events.event import Event

VERSION = 4
"""Of the tables below; `online.events.migrations` leads there from each one before."""
CHUNK = 500  # names in one statement: databases bound the number of parameters
# MySQL's TEXT and BLOB end at 64 KiB, which one long event is over.
_TEXT = sa.Text().with_variant(LONGTEXT(charset="utf8mb4"), "mysql", "mariadb")
_BLOB = sa.LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
_LONG = ("prompt", "prompt_tokens", "response", "response_tokens", "entropies")
metadata = sa.MetaData()
meta = sa.Table("meta", metadata, sa.Column("key", sa.String(32), primary_key=True), sa.Column("value", sa.String(64)))
"""Under "schema" the number of the tables' schema, under "cutoff" until when events are gone by age (unix time, seconds)."""
revisions = sa.Table("sirl_schema", metadata, sa.Column("version_num", sa.String(32), primary_key=True))
"""Alembic's own note of the same number; another program's `alembic_version` may lie in the same database."""
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("adapter", sa.String(32), nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("prompt", _TEXT, nullable=False),
    sa.Column("prompt_tokens", _BLOB, nullable=False),
    sa.Column("response", _TEXT, nullable=False),
    sa.Column("response_tokens", _BLOB, nullable=False),
    sa.Column("entropies", _BLOB, nullable=False),
    sa.Column("entropy_mean", sa.Double),
    sa.Column("refusal_mass", sa.Double),
    sa.Column("finish_reason", sa.String(32), nullable=False),
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("model", sa.String(80), nullable=False),
    sa.Column("block", sa.String(64), nullable=False, server_default=""),
    sa.Index("events_time", "time", "id"),
    sa.Index("events_verdict_time", "verdict", "time", "id"),
)
reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("decision", sa.String(8), nullable=False),
)
"""What operators decided of prompts and clients, by their hashes."""
clients = sa.Table(
    "clients",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("first", sa.Double, nullable=False),
)
"""When each client first came (unix time, seconds), longer than its events are kept."""
forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("until", sa.Double, nullable=False),
)
"""What must not come any more: the event of an id, and of a client (its hash) what it asked before `until` (unix time)."""


def version(connection: sa.Connection) -> str | None:
    """Of the tables that are there; None where there are none of ours."""
    if not sa.inspect(connection).has_table(meta.name):
        return None
    return connection.scalar(sa.select(meta.c.value).where(meta.c.key == "schema"))


def lock(connection: sa.Connection, *, shared: bool = False) -> None:
    """Keep who forgets and who adds events apart until this transaction ends; those who add do not wait for each other."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(sa.select(meta.c.value).where(meta.c.key == "schema").with_for_update(read=shared))


def cutoff(connection: sa.Connection) -> float:
    return float(connection.scalar(sa.select(meta.c.value).where(meta.c.key == "cutoff")) or "nan")


def set_cutoff(connection: sa.Connection, moment: float) -> None:
    if not connection.execute(sa.update(meta).where(meta.c.key == "cutoff").values(value=repr(moment))).rowcount:
        if math.isnan(cutoff(connection)):  # MySQL counts no row that was the same before
            connection.execute(sa.insert(meta).values(key="cutoff", value=repr(moment)))


def create(connection: sa.Connection, moment: float) -> None:
    """All tables, in a database that has none; `moment` is the first cutoff (unix time, seconds)."""
    metadata.create_all(connection)
    _note_version(connection, VERSION)
    set_cutoff(connection, moment)


def upgrade(connection: sa.Connection) -> None:
    """Bring tables of an earlier schema up to date, unless another process did so before the lock was to be had."""
    from online.events import migrations  # here, for it imports Alembic, which few need and all would wait for

    connection.rollback()  # so that what is looked at below is what others left until now
    with migrations.alone(connection):
        lock(connection)  # in SQLite that begins the transaction, which DDL alone would not: a kill undoes all of it
        found = int(version(connection) or VERSION)
        if found < VERSION:
            revisions.create(connection, checkfirst=True)
            _note_version(connection, found)
            migrations.migrate(connection)
            _note_version(connection, VERSION)
        connection.commit()


def _note_version(connection: sa.Connection, number: int) -> None:
    """Under "schema" in `meta`, which all programs go by, and as Alembic's revision."""
    connection.execute(sa.delete(revisions))
    connection.execute(sa.insert(revisions).values(version_num=f"{number:04d}"))
    if not connection.execute(sa.update(meta).where(meta.c.key == "schema").values(value=str(number))).rowcount:
        if connection.scalar(sa.select(meta.c.value).where(meta.c.key == "schema")) is None:
            connection.execute(sa.insert(meta).values(key="schema", value=str(number)))


def not_forgotten(connection: sa.Connection, events: Sequence[Event]) -> list[Event]:
    """The events but for those that are forgotten."""
    clients: dict[str, float] = {}
    ids: set[str] = set()
    for names in chunks(list({name for event in events for name in (event.id, event.client)})):
        for one in connection.execute(sa.select(forgotten).where(forgotten.c.name.in_(names))):
            if one.kind == "client":
                clients[one.name] = one.until
            else:
                ids.add(one.name)
    return [e for e in events if e.id not in ids and (e.began or e.time) > clients.get(e.client, -math.inf)]


def chunks(names: list[str]) -> Iterator[list[str]]:
    """As many as one statement may name."""
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


def largest(connection: sa.Connection) -> float:
    """Bytes that one statement may bring in: MySQL hangs up on more than its largest packet, and quoting may double them."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return math.inf
    return int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar() or 0) / 2


def by_size(rows: Iterable[dict[str, Any]], most: float) -> Iterator[list[dict[str, Any]]]:
    """The rows in groups of at most so many bytes together. Raises OverflowError where one alone has more."""
    group: list[dict[str, Any]] = []
    total = 0
    for one in rows:
        size = sum(len(value.encode() if isinstance(value, str) else value) for value in (one[name] for name in _LONG))
        if size > most:
            raise OverflowError(f"{size} bytes are more than the database takes at once")
        if group and total + size > most:
            yield group
            group, total = [], 0
        group.append(one)
        total += size
    if group:
        yield group


def row(event: Event) -> dict[str, Any]:
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
        "block": event.block,
    }


def event(row: Mapping[Any, Any]) -> Event:
    fields = dict(row)
    for name, dtype in (("prompt_tokens", "<i4"), ("response_tokens", "<i4"), ("entropies", "<f4")):
        fields[name] = tuple(np.frombuffer(fields[name], dtype=dtype).tolist())
    if fields["entropy_mean"] is None:
        fields["entropy_mean"] = math.nan
    return Event(**fields)
