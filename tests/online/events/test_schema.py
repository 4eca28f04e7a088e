"""The tables: of earlier schemas, and as other databases make them."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_mock_engine
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from online.events import schema
from online.events.buffer import Buffer
from tests.online.events.traffic import DAY, NOW, SETTINGS, make, url


def test_a_database_of_the_schema_before_is_brought_up_to_date(tmp_path: Path, buffer: Buffer) -> None:
    event = make(0)
    buffer.append([event])
    connection = sqlite3.connect(tmp_path / "buffer.sqlite")
    connection.executescript(
        "alter table events drop column block; drop table reviews; drop table clients;"
        "update meta set value = '2' where key = 'schema'"
    )
    connection.close()
    opened = [Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS) for _ in range(2)]
    assert opened[0].first_seen() == {"c": NOW}
    assert opened[0].get(event.id) == event and event.block == ""
    later = replace(make(1), block="b")
    opened[1].append([later])
    opened[1].review("prompt", ["a" * 32], "approved")
    assert opened[0].get(later.id) == later and opened[0].reviews("prompt") == {"a" * 32: "approved"}
    for one in opened:
        one.close()


def test_the_tables_hold_the_longest_event_in_mysql_too() -> None:
    """Its TEXT and BLOB end at 64 KiB."""
    for dialect in (mysql.dialect(), create_mock_engine("mariadb+pymysql://", None).dialect):
        made = str(CreateTable(schema.events).compile(dialect=dialect))
        columns = {line.split()[0]: line.split()[1].rstrip(",") for line in made.splitlines() if line.startswith("\t")}
        assert {columns[name] for name in ("prompt", "response")} == {"LONGTEXT"}
        assert {columns[name] for name in ("prompt_tokens", "response_tokens", "entropies")} == {"LONGBLOB"}


def test_no_statement_is_larger_than_mysql_takes_and_an_event_that_is_is_refused() -> None:
    rows = [schema.row(replace(make(at), prompt="ü" * 400)) for at in range(10)]
    groups = list(schema.by_size(rows, 2000))
    assert [row for group in groups for row in group] == rows and [len(group) for group in groups] == [2] * 5
    assert list(schema.by_size(rows, math.inf)) == [rows] and not list(schema.by_size([], 1))
    with pytest.raises(OverflowError):
        list(schema.by_size(rows, 800))


def test_a_database_of_the_third_schema_ages_on_from_its_oldest_event(tmp_path: Path, buffer: Buffer) -> None:
    buffer.append([make(0, when=NOW - 100 * DAY), make(1)])
    connection = sqlite3.connect(tmp_path / "buffer.sqlite")
    connection.executescript(
        "drop table forgotten; delete from meta where key = 'cutoff'; update meta set value = '3' where key = 'schema'"
    )
    connection.close()
    opened = Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS)
    assert opened.prune(NOW, 0.0) == 0, "what was to be kept until now is gone at the pace of the clock, not at once"
    assert opened.prune(NOW, 3600.0) == 1
    opened.bury(["c"], [], NOW)
    opened.close()
