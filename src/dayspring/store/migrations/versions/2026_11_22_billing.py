"""What was billed once: the key of work that may be repeated."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_billing"
down_revision = "2026_11_22_files"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "billed",
        sa.Column("bill_key", sa.String(length=200), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("bill_key", name=op.f("pk_billed")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("billed")
