"""Rates, budgets with a period, spend alerts, webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_limits"
down_revision = "2026_11_21_immutable_ledger"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("period", sa.String(8), nullable=False, server_default="none"),
        sa.Column("period_start_ns", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("period_end_ns", sa.BigInteger),
        sa.Column("base_nanos", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("soft_limit_nanos", sa.BigInteger),
        sa.Column("alert_at_nanos", sa.BigInteger),
        sa.Column("charged_at_ns", sa.BigInteger, nullable=False, server_default="0"),
    ):
        op.add_column("budgets", column)
    op.create_table(
        "limits",
        sa.Column("owner_id", sa.String(64), nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("concurrency", sa.BigInteger),
        sa.PrimaryKeyConstraint("owner_id", name="pk_limits"),
    )
    _alerts()
    _webhooks()


def _alerts() -> None:
    op.create_table(
        "spend_alerts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner_id", sa.String(64), nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("organization_id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("threshold_nanos", sa.BigInteger),
        sa.Column("threshold_percent", sa.SmallInteger),
        sa.Column("created_at_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_spend_alerts"),
    )
    op.create_index("ix_spend_alerts_owner_id", "spend_alerts", ["owner_id"])
    op.create_table(
        "spend_alerts_raised",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("alert_id", sa.String(64), nullable=False),
        sa.Column("owner_id", sa.String(64), nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("organization_id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("period_start_ns", sa.BigInteger, nullable=False),
        sa.Column("threshold_nanos", sa.BigInteger, nullable=False),
        sa.Column("threshold_percent", sa.SmallInteger),
        sa.Column("spent_nanos", sa.BigInteger, nullable=False),
        sa.Column("limit_nanos", sa.BigInteger),
        sa.Column("raised_at_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_spend_alerts_raised"),
        sa.UniqueConstraint(
            "owner_id", "alert_id", "period_start_ns", "threshold_nanos",
            name="uq_spend_alerts_raised_once",
        ),
    )  # fmt: skip
    op.create_index("ix_spend_alerts_raised_organization_id_id", "spend_alerts_raised", ["organization_id", "id"])


def _webhooks() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("organization_id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("event_types", sa.Text, nullable=False),
        sa.Column("secret", sa.String(200), nullable=False),
        sa.Column("old_secret", sa.String(200), nullable=False),
        sa.Column("old_secret_until_ns", sa.BigInteger, nullable=False),
        sa.Column("private", sa.Boolean, nullable=False),
        sa.Column("created_at_ns", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_index("ix_webhook_endpoints_organization_id", "webhook_endpoints", ["organization_id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("endpoint_id", sa.String(64), nullable=False),
        sa.Column("event_type", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at_ns", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at_ns", sa.BigInteger),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("status_code", sa.Integer),
        sa.Column("ended_at_ns", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    op.create_index("ix_webhook_deliveries_next_at_ns", "webhook_deliveries", ["next_at_ns"])
    op.create_index("ix_webhook_deliveries_endpoint_id", "webhook_deliveries", ["endpoint_id"])


def downgrade() -> None:
    for table in ("webhook_deliveries", "webhook_endpoints", "spend_alerts_raised", "spend_alerts", "limits"):
        op.drop_table(table)
    with op.batch_alter_table("budgets") as budgets:
        for column in (
            "charged_at_ns", "alert_at_nanos", "soft_limit_nanos", "base_nanos", "period_end_ns", "period_start_ns",
            "period",
        ):  # fmt: skip
            budgets.drop_column(column)
