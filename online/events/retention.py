"""Retention: which events a full buffer keeps."""

from __future__ import annotations

import math

import sqlalchemy as sa

from online.events import schema
from online.events.event import SAMPLED
from online.settings.groups import BufferSettings

DAY = 86_400.0
CATCH_UP = 24.0
"""By how many times real time the moment may move on before which all is gone."""
_events, _clients, _forgotten = schema.events, schema.clients, schema.forgotten


def prune(connection: sa.Connection, settings: BufferSettings, now: float, elapsed: float) -> int:
    """Drops what is too old, then sampled events over their cap, then any; the oldest of those who sent most go first,
    so that a flood pushes out itself. Clients are forgotten after that long, too.

    A clock that jumps ahead makes everything old. So the moment before which all is gone moves on by at most CATCH_UP
    times the seconds that really `elapsed` since the last call: what a wrong clock costs is in proportion to how long it
    is wrong, and what lay still while nobody ran is caught up with in a day a month.
    """
    cutoff = now - settings.max_age_days * DAY
    if not math.isnan(before := schema.cutoff(connection)):
        cutoff = min(cutoff, before + CATCH_UP * elapsed)
    schema.set_cutoff(connection, cutoff)
    dropped = connection.execute(sa.delete(_events).where(_events.c.time < cutoff)).rowcount
    sampled = _events.c.verdict.in_(SAMPLED)
    dropped += _drop(connection, sampled, settings.plain_max)
    dropped += _drop(connection, sa.true(), settings.max_events)
    gone = _clients.c.first < cutoff, _clients.c.name.not_in(sa.select(_events.c.client))
    connection.execute(sa.delete(_clients).where(*gone))
    connection.execute(sa.delete(_forgotten).where(_forgotten.c.until < cutoff))
    return dropped


def in_turns(*wanted: sa.ColumnElement[bool]) -> sa.Subquery:
    """Ids of events and each one's place when blocks of addresses take turns, and within a block its clients, everybody's
    newest first: who sends more, or under more names, comes no sooner."""
    newest = _events.c.time.desc(), _events.c.id.desc()
    own = sa.func.row_number().over(partition_by=_events.c.client, order_by=newest).label("own")
    block = sa.case((_events.c.block == "", _events.c.client), else_=_events.c.block).label("block")
    one = sa.select(_events.c.id, _events.c.time, block, own).where(*wanted).subquery()
    latest = one.c.time.desc(), one.c.id.desc()
    turn = sa.func.row_number().over(partition_by=one.c.block, order_by=(one.c.own, *latest)).label("turn")
    two = sa.select(one.c.id, one.c.time, turn).subquery()
    order = two.c.turn, two.c.time.desc(), two.c.id.desc()
    return sa.select(two.c.id, sa.func.row_number().over(order_by=order).label("place")).subquery()


def _drop(connection: sa.Connection, among: sa.ColumnElement[bool], keep: int) -> int:
    """Deletes all but `keep` of these events, of which those stay that come first in turns; returns how many went."""
    if (connection.scalar(sa.select(sa.func.count()).select_from(_events).where(among)) or 0) <= keep:
        return 0
    turns = in_turns(among)
    over = sa.select(turns.c.id).where(turns.c.place > keep)
    return connection.execute(sa.delete(_events).where(_events.c.id.in_(over))).rowcount
