"""Users, roles, sessions, rotated keys, the audit log, retention; what clients said about people, out of the books.

`requests` is immutable from the release before on, and had a column with what clients sent along, which may name
people. This migration moves that column to `request_notes`, from which it can be erased, and takes the digest off those
rows (it was made over the notes too). It lifts the trigger for that moment only; nothing that was booked changes.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_people"
down_revision = "2026_11_22_limits"
branch_labels = None
depends_on = None

_ID = sa.String(64)
_TIME = sa.BigInteger


def upgrade() -> None:
    op.add_column("projects", sa.Column("archived_at_ns", _TIME))
    _people()
    _links()
    _keys()
    _audit()
    _kept()
    _notes()


def _people() -> None:
    op.create_table(
        "users",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("login", sa.String(320)),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("is_operator", sa.Boolean, nullable=False),
        sa.Column("password", sa.String(255)),
        sa.Column("issuer", sa.String(255)),
        sa.Column("subject", sa.String(255)),
        sa.Column("created_at_ns", _TIME, nullable=False),
        sa.Column("removed_at_ns", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_users_organization_id"),
        sa.UniqueConstraint("login", name="uq_users_login"),
        sa.UniqueConstraint("issuer", "subject", name="uq_users_issuer_subject"),
    )
    op.create_index("ix_users_organization_id", "users", ["organization_id"])
    op.create_table(
        "project_members",
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("added_at_ns", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "user_id", name="pk_project_members"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_project_members_project_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_project_members_user_id"),
    )
    op.create_index("ix_project_members_user_id", "project_members", ["user_id"])
    op.create_table(
        "sessions",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("address", _ID, nullable=False),
        sa.Column("user_agent", sa.String(200), nullable=False),
        sa.Column("created_at_ns", _TIME, nullable=False),
        sa.Column("seen_at_ns", _TIME, nullable=False),
        sa.Column("idle_ns", _TIME, nullable=False),
        sa.Column("expires_at_ns", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id"),
    )
    op.create_index("ix_sessions_prefix", "sessions", ["prefix"], unique=True)
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at_ns", "sessions", ["expires_at_ns"])


def _links() -> None:
    op.create_table(
        "invites",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("login", sa.String(320), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("projects", sa.Text, nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at_ns", _TIME, nullable=False),
        sa.Column("expires_at_ns", _TIME, nullable=False),
        sa.Column("accepted_at_ns", _TIME),
        sa.Column("user_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_invites"),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name="fk_invites_organization_id"),
    )
    op.create_index("ix_invites_prefix", "invites", ["prefix"], unique=True)
    op.create_index("ix_invites_organization_id", "invites", ["organization_id"])
    op.create_index("ix_invites_login", "invites", ["login"])
    op.create_table(
        "password_resets",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_at_ns", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_password_resets"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_password_resets_user_id"),
    )
    op.create_index("ix_password_resets_prefix", "password_resets", ["prefix"], unique=True)
    op.create_table(
        "oidc_sign_ins",
        sa.Column("state", sa.LargeBinary(32), nullable=False),
        sa.Column("browser", sa.LargeBinary(32), nullable=False),
        sa.Column("nonce", sa.String(64), nullable=False),
        sa.Column("verifier", sa.String(128), nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("expires_at_ns", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("state", name="pk_oidc_sign_ins"),
    )
    op.create_index("ix_oidc_sign_ins_expires_at_ns", "oidc_sign_ins", ["expires_at_ns"])


def _keys() -> None:
    for column in (
        sa.Column("user_id", _ID, nullable=False, server_default=""),
        sa.Column("service_account_id", _ID, nullable=False, server_default=""),
        sa.Column("previous_prefix", sa.String(16)),
        sa.Column("previous_digest", sa.LargeBinary(32)),
        sa.Column("previous_until_ns", _TIME),
    ):
        op.add_column("keys", column)
    op.create_index("ix_keys_previous_prefix", "keys", ["previous_prefix"])
    op.create_index("ix_keys_user_id", "keys", ["user_id"])
    op.create_table(
        "service_accounts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at_ns", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_service_accounts"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_service_accounts_project_id"),
    )
    op.create_index("ix_service_accounts_project_id", "service_accounts", ["project_id"])


def _audit() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at_ns", _TIME, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("actor_kind", sa.String(16), nullable=False),
        sa.Column("actor_key_id", _ID, nullable=False),
        sa.Column("actor_user_id", _ID, nullable=False),
        sa.Column("event", _ID, nullable=False),
        sa.Column("target_id", sa.String(200), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_organization_id_at_ns", "audit_log", ["organization_id", "at_ns"])
    op.create_index("ix_audit_log_at_ns", "audit_log", ["at_ns"])
    op.create_table(
        "audit_personal",
        sa.Column("entry_id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("at_ns", _TIME, nullable=False),
        sa.Column("address", _ID, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_audit_personal"),
    )
    op.create_index("ix_audit_personal_user_id", "audit_personal", ["user_id"])
    op.create_index("ix_audit_personal_at_ns", "audit_personal", ["at_ns"])
    _make_immutable("audit_log")


def _kept() -> None:
    op.create_table(
        "retention",
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "kind", name="pk_retention"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_retention_project_id"),
    )
    op.create_table(
        "quotas",
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("limit_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_quotas"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_quotas_project_id"),
    )


def _notes() -> None:
    op.create_table(
        "request_notes",
        sa.Column("request_id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("end_user", sa.String(512), nullable=False),
        sa.Column("safety_identifier", sa.String(512), nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("created_at_ns", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_request_notes"),
        sqlite_with_rowid=False,
    )
    for named in ("end_user", "safety_identifier"):
        op.create_index(f"ix_request_notes_organization_id_{named}", "request_notes", ["organization_id", named])
    op.create_index("ix_request_notes_project_id_created_at_ns", "request_notes", ["project_id", "created_at_ns"])
    _move_notes()
    _make_mutable("requests")
    op.execute("UPDATE requests SET content = '' WHERE metadata IS NOT NULL")
    op.drop_column("requests", "metadata")
    _make_immutable("requests")


def _move_notes() -> None:
    """Whom a note names is read by the database, but where a text has a NUL in it, which PostgreSQL cannot read."""
    sqlite = op.get_context().dialect.name == "sqlite"
    one = "substr(coalesce(json_extract(metadata, '$.{}'), ''), 1, 512)" if sqlite else (
        "left(coalesce(metadata::jsonb ->> '{}', ''), 512)"
    )  # fmt: skip
    nul = r"(instr(metadata, '\u0000') > 0)" if sqlite else r"(position('\u0000' in metadata) > 0)"
    columns = "request_id, organization_id, project_id, end_user, safety_identifier, metadata, created_at_ns"
    named = ", ".join(
        f"CASE WHEN {nul} THEN '' ELSE {one.format(field)} END" for field in ("user", "safety_identifier")
    )
    op.execute(
        f"INSERT INTO request_notes ({columns}) SELECT request_id, organization_id, project_id, {named}, "  # noqa: S608 - constants
        "metadata, finished_at_ns FROM requests WHERE metadata IS NOT NULL"
    )
    connection = op.get_bind()
    rows = connection.execute(sa.text(f"SELECT request_id, metadata FROM request_notes WHERE {nul}")).all()  # noqa: S608 - constants
    name = sa.text("UPDATE request_notes SET end_user = :user, safety_identifier = :safe WHERE request_id = :id")
    for request_id, notes in rows:
        sent = json.loads(notes)
        user, safe = (
            str(sent.get(field) or "").replace("\0", "")[:512] for field in ("user", "safety_identifier")
        )  # fmt: skip
        connection.execute(name, {"id": request_id, "user": user, "safe": safe})


def downgrade() -> None:
    op.add_column("requests", sa.Column("metadata", sa.Text))
    _make_mutable("requests")
    op.execute(
        "UPDATE requests SET metadata = "
        "(SELECT request_notes.metadata FROM request_notes WHERE request_notes.request_id = requests.request_id)"
    )
    _make_immutable("requests")
    _make_mutable("audit_log")
    for table in (
        "request_notes", "quotas", "retention", "audit_personal", "audit_log", "service_accounts", "oidc_sign_ins",
        "password_resets", "invites", "sessions", "project_members", "users",
    ):  # fmt: skip
        op.drop_table(table)
    op.drop_index("ix_keys_user_id", table_name="keys")
    op.drop_index("ix_keys_previous_prefix", table_name="keys")
    for column in ("previous_until_ns", "previous_digest", "previous_prefix", "service_account_id", "user_id"):
        op.drop_column("keys", column)
    op.drop_column("projects", "archived_at_ns")


def _make_immutable(table: str) -> None:
    """As the migration `immutable_ledger` did for the books."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION dayspring_immutable()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are immutable'); END"
        )


def _make_mutable(table: str) -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER {table}_immutable ON {table}")
        return
    for verb in ("update", "delete"):
        op.execute(f"DROP TRIGGER {table}_no_{verb}")
