"""Events tell the base model they came from: those of before came from nobody knows which, and teach none."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("events")}
    if "model" not in columns:
        with op.batch_alter_table("events") as events:
            events.add_column(sa.Column("model", sa.String(80), nullable=False, server_default=""))
    with op.batch_alter_table("events") as events:
        events.alter_column("model", server_default=None, existing_type=sa.String(80), existing_nullable=False)
