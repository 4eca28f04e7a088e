"""What is forgotten is kept out, clients are known from their first event on, age goes by a moment that is kept, and MySQL's
columns hold the longest event. Databases of schema 3 that were made late have their clients already."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGBLOB, LONGTEXT

revision = "0004"
down_revision = "0003"

Kind = sa.types.TypeEngine[str] | sa.types.TypeEngine[bytes]
LONG: dict[str, tuple[Kind, Kind]] = {
    "prompt": (sa.Text(), LONGTEXT(charset="utf8mb4")),
    "prompt_tokens": (sa.LargeBinary(), LONGBLOB()),
    "response": (sa.Text(), LONGTEXT(charset="utf8mb4")),
    "response_tokens": (sa.LargeBinary(), LONGBLOB()),
    "entropies": (sa.LargeBinary(), LONGBLOB()),
}
events = sa.table("events", sa.column("client"), sa.column("time"))
clients = sa.table("clients", sa.column("name"), sa.column("first"))
meta = sa.table("meta", sa.column("key"), sa.column("value"))


def upgrade() -> None:
    op.create_table(
        "clients",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("first", sa.Double, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "forgotten",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("until", sa.Double, nullable=False),
        if_not_exists=True,
    )
    connection = op.get_bind()
    if connection.dialect.name in ("mysql", "mariadb"):
        for name, (short, long) in LONG.items():
            op.alter_column("events", name, existing_type=short, type_=long, existing_nullable=False)
    known = sa.select(clients.c.name)
    first = sa.select(events.c.client, sa.func.min(events.c.time)).where(events.c.client.not_in(known))
    connection.execute(sa.insert(clients).from_select(["name", "first"], first.group_by(events.c.client)))
    oldest = connection.scalar(sa.select(sa.func.min(events.c.time)))
    if oldest is not None:
        connection.execute(sa.delete(meta).where(meta.c.key == "cutoff"))
        connection.execute(sa.insert(meta).values(key="cutoff", value=repr(oldest)))
