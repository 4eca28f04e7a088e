"""What lies in the buffer's database: its tables, and how an event becomes a row and a row an event."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa

from online.event import Event

VERSION = "3"
metadata = sa.MetaData()
meta = sa.Table("meta", metadata, sa.Column("key", sa.String(32), primary_key=True), sa.Column("value", sa.String(64)))
events = sa.Table(
    "events",
    metadata,
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


def version(connection: sa.Connection) -> str | None:
    """Of the tables that are there."""
    return connection.scalar(sa.select(meta.c.value).where(meta.c.key == "schema"))


def upgrade(connection: sa.Connection) -> None:
    """Bring tables that an earlier version of ours made up to date: the second had events alone, without address blocks."""
    if version(connection) == "2":
        connection.execute(sa.DDL("ALTER TABLE events ADD COLUMN block VARCHAR(64) DEFAULT '' NOT NULL"))
        reviews.create(connection)
        clients.create(connection)
        first = sa.select(events.c.client, sa.func.min(events.c.time)).group_by(events.c.client)
        connection.execute(sa.insert(clients).from_select(["name", "first"], first))
        connection.execute(sa.update(meta).where(meta.c.key == "schema").values(value=VERSION))


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
