"""Databases of every earlier schema are brought to the present one and lose nothing, whoever opens them, however it ends."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from online.events import migrations, schema
from online.events.buffer import Buffer, EarlierSchemaError
from online.events.event import Event
from tests.online.events.test_buffer import NOW, SETTINGS, make, refusal, url
from tests.online.updates.test_killed import in_a_process

ROWS = (
    "('01', 1800000000.0, 'base', 'contested', 'Größe?', x'0100000002000000', 'one', x'03000000', x'0000003f0000803e', "
    "0.375, 0.5, 'stop', 'c1'",
    "('02', 1800000001.0, 'v3', 'plain', 'b', x'04000000', 'two', x'', x'', null, null, 'length', 'c2'",
    "('03', 1800000002.0, 'base', 'risky', 'c', x'', 'three', x'05000000', x'00000000', 0.0, 0.25, 'stop', 'c1'",
)


def events(columns: str = "", values: str = "") -> str:
    """The first two tables, with the columns that the events had more than the first, and their values."""
    return f"""
create table meta ("key" VARCHAR(32) not null, value VARCHAR(64), primary key ("key"));
create table events (
  id VARCHAR(32) not null, time DOUBLE not null, adapter VARCHAR(32) not null, verdict VARCHAR(16) not null,
  prompt TEXT not null, prompt_tokens BLOB not null, response TEXT not null, response_tokens BLOB not null,
  entropies BLOB not null, entropy_mean DOUBLE, refusal_mass DOUBLE, finish_reason VARCHAR(32) not null,
  client VARCHAR(64) not null{columns}, primary key (id)
);
create index events_time on events (time, id);
create index events_verdict_time on events (verdict, time, id);
insert into events values {", ".join(f"{row}{values})" for row in ROWS)};
"""


MODEL = ", model VARCHAR(80) not null"
BLOCK = ", block VARCHAR(64) default '' not null"
REVIEWS = """
update events set block = 'b1' where id = '03';
create table reviews (
  kind VARCHAR(8) not null, name VARCHAR(32) not null, decision VARCHAR(8) not null, primary key (kind, name)
);
insert into reviews values ('client', 'c2', 'excluded'), ('prompt', 'p', 'approved');
"""
CLIENTS = """
create table clients (name VARCHAR(64) not null, first DOUBLE not null, primary key (name));
insert into clients values ('c1', 1799999990.0), ('c2', 1800000001.0), ('gone', 1799999000.0);
"""
FORGOTTEN = """
create table forgotten (
  kind VARCHAR(8) not null, name VARCHAR(64) not null, until DOUBLE not null, primary key (kind, name)
);
insert into forgotten values ('client', 'never', 1800000000.5), ('event', '09', 1800000000.5);
insert into meta values ('cutoff', '1799000000.0');
"""


def noted(number: int) -> str:
    return f"insert into meta values ('schema', '{number}');"


FIRST, SECOND = events(), events(MODEL, ", 'sha256:m'")
THIRD = events(MODEL + BLOCK, ", 'sha256:m', ''") + REVIEWS
EARLIER = {
    "1": FIRST + noted(1),
    "2": SECOND + noted(2),
    "3, the first": THIRD + noted(3),
    "3, with clients": THIRD + CLIENTS + noted(3),
    "4, before Alembic": THIRD + CLIENTS + FORGOTTEN + noted(4),
}
"""Each schema that was ever released, as its program made it, with rows."""


def made(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.executescript(script)
    return path


def expected(name: str) -> list[Event]:
    """The rows above, oldest first."""
    number = int(name[0])
    model = "sha256:m" if number > 1 else ""
    block = "b1" if number > 2 else ""
    return [
        Event("01", NOW, "base", "contested", "Größe?", (1, 2), "one", (3,), (0.5, 0.25), 0.375, 0.5, "stop", "c1", model),
        Event("02", NOW + 1, "v3", "plain", "b", (4,), "two", (), (), math.nan, None, "length", "c2", model),
        Event("03", NOW + 2, "base", "risky", "c", (), "three", (5,), (0.0,), 0.0, 0.25, "stop", "c1", model, block),
    ]


def told(events: list[Event]) -> list[str]:
    """Comparable though an entropy is NaN."""
    return [repr(event) for event in events]


def check(path: Path, name: str) -> None:
    """The database is of the present schema, and all that was there is there."""
    buffer, number = Buffer(url(path), SETTINGS), int(name[0])
    assert told(buffer.events(newest_first=False)) == told(expected(name))
    earlier = {"c1": NOW - 10, "gone": NOW - 1000} if "clients" in name or number > 3 else {"c1": NOW}
    assert buffer.first_seen() == {"c2": NOW + 1} | earlier
    assert buffer.reviews("client") == ({"c2": "excluded"} if number > 2 else {})
    assert buffer.reviews("prompt") == ({"p": "approved"} if number > 2 else {})
    with closing(sqlite3.connect(path)) as connection:
        notes = dict(connection.execute("select key, value from meta"))
        assert notes["schema"] == str(schema.VERSION)
        assert float(notes["cutoff"]) == (1_799_000_000.0 if number > 3 else NOW)
        assert connection.execute("select count(*) from forgotten").fetchone() == (2 if number > 3 else 0,)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        assert not connection.execute("select name from sqlite_master where name like '_alembic_tmp%'").fetchall()
    later = make(9)
    buffer.bury(["c"], [], later.time + 1)
    assert (
        buffer.append([later, make(11)]) == 1
        and buffer.in_turns("", NOW + 20, 9, 9, lambda event: event.time)[0] == NOW + 11
    )
    buffer.close()


@pytest.mark.parametrize("name", EARLIER)
def test_every_earlier_schema_is_brought_to_the_present_one_and_loses_nothing(tmp_path: Path, name: str) -> None:
    check(made(tmp_path / "b.sqlite", EARLIER[name]), name)


@pytest.mark.parametrize("name", EARLIER)
def test_the_tables_are_then_those_of_a_new_database(tmp_path: Path, name: str) -> None:
    Buffer(url(made(tmp_path / "old.sqlite", EARLIER[name])), SETTINGS).close()
    Buffer(url(tmp_path / "new.sqlite"), SETTINGS).close()
    old, new = tables(tmp_path / "old.sqlite"), tables(tmp_path / "new.sqlite")
    if name[0] == "4":
        del new["sirl_schema"]  # Alembic notes there what it did, and had nothing to do
    assert old == new


def tables(path: Path) -> dict[str, tuple]:
    """Columns, in order, and indexes of each table."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        return {
            name: (
                [column[1:] for column in connection.execute(f"pragma table_info({name})")],
                {
                    index: [column[2] for column in connection.execute(f"pragma index_info({index})")]
                    for _, index, *_ in connection.execute(f"pragma index_list({name})")
                },
            )
            for name in names
        }


def test_the_migrations_from_nothing_make_the_tables_of_a_new_database(tmp_path: Path) -> None:
    engine = sa.create_engine(url(tmp_path / "b.sqlite"))
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        migrations.migrate(connection)
        connection.commit()
        options = {"compare_type": True, "version_table": schema.revisions.name}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata) == []
    engine.dispose()
    Buffer(url(tmp_path / "new.sqlite"), SETTINGS).close()
    assert tables(tmp_path / "b.sqlite") == tables(tmp_path / "new.sqlite")


def test_the_last_migration_leads_to_the_schema_of_the_tables() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_current_head() == f"{schema.VERSION:04d}"
    walked = [script.revision for script in scripts.walk_revisions()]
    assert walked == [f"{number:04d}" for number in range(schema.VERSION, 0, -1)]


def test_a_kill_at_any_statement_leaves_a_database_that_opens(tmp_path: Path) -> None:
    """Of all migrations: from the first schema."""
    begun, killed = made(tmp_path / "begun.sqlite", EARLIER["1"]), 0
    for step in range(1000):
        path = Path(shutil.copy(begun, tmp_path / f"{step}.sqlite"))

        def work(path: Path = path, step: int = step) -> None:
            seen = 0

            def die(*_: object) -> None:
                nonlocal seen
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

            for moment in ("before_cursor_execute", "commit"):
                sa.event.listen(Engine, moment, die)
            Buffer(url(path), SETTINGS)

        status = in_a_process(work)
        with closing(sqlite3.connect(path)) as connection:
            found = {key: value for key, value in connection.execute("select key, value from meta")}
        assert found["schema"] in ("1", str(schema.VERSION)), "all of it, or nothing"
        check(path, "1")
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
    assert killed > 20


def test_a_migration_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """A table of somebody else's under one of our names."""
    path = made(tmp_path / "b.sqlite", EARLIER["2"] + "create table clients (x); insert into clients values (1);")
    before = tables(path)
    assert "cannot be used" in refusal(url(path))
    assert tables(path) == before
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("drop table clients")
        connection.commit()
    check(path, "2")


def test_processes_that_open_one_earlier_database_at_once_all_find_it_migrated(tmp_path: Path) -> None:
    path = made(tmp_path / "b.sqlite", EARLIER["1"])
    start, go = os.pipe()
    children = []
    for number in range(5):
        if (child := os.fork()) == 0:
            status = 1
            try:
                os.close(go)
                os.read(start, 1)  # until the parent lets go
                buffer = Buffer(url(path), SETTINGS)
                status = 0 if buffer.append([make(20 + number)]) == 1 else 2
            finally:
                os._exit(status)
        children.append(child)
    os.close(start)
    os.close(go)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 5
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("delete from events where client = 'c'")
        connection.execute("delete from clients where name = 'c'")
        connection.commit()
    check(path, "1")


@pytest.mark.parametrize(
    ("noted", "wanted"),
    [
        ("5", "was written by a newer sirl-guard (it has schema 5; this one reads up to 4): upgrade this one, or choose"),
        ("x", "has schema x, which no sirl-guard wrote"),
        ("-1", "has schema -1, which no sirl-guard wrote"),
    ],
)
def test_a_later_schema_and_nonsense_are_one_sentence_and_left_alone(tmp_path: Path, noted: str, wanted: str) -> None:
    script = EARLIER["4, before Alembic"] + f"update meta set value = '{noted}' where key = 'schema';"
    path = made(tmp_path / "b.sqlite", script)
    before = path.read_bytes()
    assert wanted in refusal(url(path))
    assert path.read_bytes() == before


def test_an_earlier_schema_is_left_alone_where_that_is_asked_for(tmp_path: Path) -> None:
    path = made(tmp_path / "b.sqlite", EARLIER["2"])
    before = path.read_bytes()
    with pytest.raises(EarlierSchemaError, match=r"has schema 2, and the next server .* brings it to 4: copy it .*[^.]\.$"):
        Buffer(url(path), SETTINGS, upgrade=False)
    assert path.read_bytes() == before
    Buffer(url(path), SETTINGS).close()
    Buffer(url(path), SETTINGS, upgrade=False).close()


def test_a_program_of_before_alembic_finds_its_note(tmp_path: Path) -> None:
    """It goes by the row "schema" of meta alone."""
    Buffer(url(tmp_path / "b.sqlite"), SETTINGS).close()
    with closing(sqlite3.connect(tmp_path / "b.sqlite")) as connection:
        assert connection.execute("select value from meta where key = 'schema'").fetchall() == [("4",)]
        assert connection.execute("select version_num from sirl_schema").fetchall() == [("0004",)]


def test_alembic_is_imported_for_a_migration_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from online.events.buffer import Buffer; from online.settings.groups import BufferSettings\n"
        "for url in sys.argv[1:]: Buffer(url, BufferSettings()).close(); print('alembic' in sys.modules)"
    )
    old, new = made(tmp_path / "old.sqlite", EARLIER["2"]), tmp_path / "new.sqlite"
    ran = subprocess.run([sys.executable, "-c", code, *map(url, (new, new, old))], capture_output=True, text=True)
    assert (ran.stdout.split(), ran.stderr) == (["False", "False", "True"], "")
