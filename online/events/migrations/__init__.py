"""Migrations of the buffer's schema, by Alembic, one a file under `versions`; 0004 makes schema 4 of schema 3.

A change of the tables in `online.events.schema` is a new file here, and `schema.VERSION` counts one further. A migration
names the tables as they were then. It may be begun twice: MySQL cannot take DDL back, and keeps what a killed one did.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

LOCK_WAIT_S = 600
_LOCK = "sirl schema"
_one_at_a_time = threading.Lock()  # Alembic keeps what runs in globals of its modules
logging.getLogger("alembic").setLevel(logging.WARNING)  # it takes every SQLite for one that cannot take DDL back


def migrate(connection: sa.Connection, revision: str = "head") -> None:
    """Run the migrations that lead from the revision that the database bears to another one, within the transaction of the
    connection, which the caller commits."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _one_at_a_time:
        command.upgrade(config, revision)


@contextmanager
def alone(connection: sa.Connection) -> Iterator[None]:
    """Keep other processes from migrating in MySQL, whose DDL ends the transaction and with it the locks of rows."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        yield
        return
    if connection.scalar(sa.select(sa.func.get_lock(_LOCK, LOCK_WAIT_S))) != 1:
        raise TimeoutError(f"another process has been migrating it for {LOCK_WAIT_S} s")
    try:
        yield
    finally:
        connection.execute(sa.select(sa.func.release_lock(_LOCK)))
