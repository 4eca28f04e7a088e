"""The first schema: events, and what there is to note of them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(64)),
        if_not_exists=True,
    )
    op.create_table(
        "events",
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
        sa.Index("events_time", "time", "id"),
        sa.Index("events_verdict_time", "verdict", "time", "id"),
        if_not_exists=True,
    )
