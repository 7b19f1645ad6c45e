"""Aliases and what the hub learned to keep."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_hub"
down_revision = "2026_11_22_batches"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model_aliases",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column(
            "targets", sa.Text(), nullable=False, comment="JSON list of ids: the target, then the fallbacks in order."
        ),
        sa.Column("created_at", sa.BigInteger(), nullable=False, comment="Unix seconds."),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_model_aliases")),
    )
    op.create_table(
        "hub_downloads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("home", sa.Text(), nullable=False, comment="The data folder of the server that fetches it."),
        sa.Column("model_id", sa.String(length=200), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False, comment="The Plan as JSON; it holds no secret."),
        sa.Column("accepted_by", sa.String(length=200), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False, comment="Unix seconds."),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hub_downloads")),
    )
    op.create_index(op.f("ix_hub_downloads_status"), "hub_downloads", ["status"])


def downgrade() -> None:
    op.drop_index(op.f("ix_hub_downloads_status"), table_name="hub_downloads")
    op.drop_table("hub_downloads")
    op.drop_table("model_aliases")
