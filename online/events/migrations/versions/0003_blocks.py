"""Events tell the block of addresses they came from, and operators' decisions are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("events")}
    if "block" not in columns:
        with op.batch_alter_table("events") as events:
            events.add_column(sa.Column("block", sa.String(64), nullable=False, server_default=""))
    op.create_table(
        "reviews",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("decision", sa.String(8), nullable=False),
        if_not_exists=True,
    )
