"""Stored responses, stored chat completions, and their items."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_responses"
down_revision = "2026_11_22_hub"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "responses",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("organization_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("end_user", sa.String(length=512), nullable=False),
        sa.Column("safety_identifier", sa.String(length=512), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("previous_id", sa.String(length=80), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("instance_id", sa.String(length=64), nullable=False),
        sa.Column("created_at_ns", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responses")),
    )
    op.create_index(op.f("ix_responses_project_id_kind_created_at_ns"), "responses",
                    ["project_id", "kind", "created_at_ns"])  # fmt: skip
    op.create_index("ix_responses_sizes", "responses", ["project_id", "size_bytes"])
    op.create_index(op.f("ix_responses_organization_id_user_id"), "responses", ["organization_id", "user_id"])
    op.create_index(op.f("ix_responses_instance_id"), "responses", ["instance_id"])
    op.create_table(
        "response_items",
        sa.Column("response_id", sa.String(length=80), nullable=False),
        sa.Column("place", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["response_id"],
            ["responses.id"],
            name=op.f("fk_response_items_response_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("response_id", "place", name=op.f("pk_response_items")),
    )
    op.create_index(op.f("ix_response_items_id"), "response_items", ["id"])


def downgrade() -> None:
    op.drop_table("response_items")
    op.drop_table("responses")
