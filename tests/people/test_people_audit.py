"""What was changed is told, to whom it concerns, for ever."""

import csv
import io

import msgspec
import pytest
from people_desk import HERE, PASSWORD, PeopleDesk
from sqlalchemy import text

from dayspring.accounts.administration.audit_search import AuditQuery, entries_to_csv
from dayspring.accounts.administration.keys import KeyChange
from dayspring.accounts.audit import audit_log, record
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.service import UserChange
from dayspring.accounts.service import KeyRequest
from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, SignInFailed
from dayspring.testing.clock import FakeClock


async def test_every_change_leaves_an_entry(desk: PeopleDesk) -> None:
    boss = await desk.person("boss", Role.ADMIN)
    made = await desk.keys.create(boss, desk.project.id, KeyRequest(name="x"))
    await desk.keys.change(boss, made.key.id, KeyChange(name="y"), None)
    await desk.keys.rotate(boss, made.key.id, 60)
    await desk.keys.revoke(boss, made.key.id)
    account, _ = await desk.keys.create_service_account(boss, desk.project.id, "robot")
    await desk.keys.rename_service_account(boss, desk.project.id, account.id, "arm")
    await desk.keys.delete_service_account(boss, desk.project.id, account.id)
    invite, _ = await desk.people.invite(boss, "new@acme.example", Role.MEMBER, None)
    await desk.people.withdraw_invite(boss, invite.id)
    ann = await desk.add("ann@acme.example")
    await desk.people.change(boss, ann.id, UserChange(role=Role.VIEWER))
    await desk.people.reset_password(boss, ann.id)
    await desk.projects.open_to(boss, desk.project.id, Role.ADMIN, user_id=ann.id)
    await desk.projects.close_to(boss, desk.project.id, ann.id)
    await desk.people.remove(boss, ann.id)
    await desk.projects.rename(boss, desk.project.id, "renamed")
    await desk.projects.set_retention(boss, desk.project.id, {"files": 7})
    await desk.projects.set_quota(boss, desk.project.id, 5)
    await desk.projects.archive(boss, desk.project.id)
    told = [entry.event for entry in await desk.log(actor_ids=(boss.user_id,))]
    assert sorted(told) == sorted([
        "login.succeeded", "api_key.created", "api_key.updated", "api_key.updated", "api_key.deleted",
        "service_account.created", "api_key.created", "service_account.updated", "service_account.deleted",
        "invite.sent", "invite.deleted", "user.updated", "user.updated", "role.assignment.created",
        "role.assignment.deleted", "user.deleted", "project.updated", "project.updated", "project.updated",
        "project.archived",
    ])  # fmt: skip
    [entry] = await desk.log(actor_ids=(boss.user_id,), event_types=("project.archived",))
    assert (entry.actor_kind, entry.actor_email, entry.project_id) == ("session", "boss@acme.example", desk.project.id)


async def test_a_refused_change_leaves_none(desk: PeopleDesk) -> None:
    ann = await desk.person("ann")
    before = await desk.log()
    with pytest.raises(PermissionDenied):
        await desk.projects.archive(ann, desk.project.id)
    with pytest.raises(NotFound):
        await desk.people.remove(desk.admin, "user_none")
    assert await desk.log() == before


async def test_failed_sign_ins_are_told_with_where_they_came_from(desk: PeopleDesk) -> None:
    user = await desk.add("ann@acme.example")
    with pytest.raises(SignInFailed):
        await desk.sign_in.with_password("ann@acme.example", PASSWORD + "!", HERE)
    await desk.noted()
    [entry] = await desk.log(event_types=("login.failed",))
    assert (entry.target_id, entry.address) == (user.id, HERE.address)


async def test_what_people_do_at_the_door_is_told_as_theirs_with_where_they_came_from(desk: PeopleDesk) -> None:
    _, offer = await desk.people.invite(None, "ann@acme.example", Role.MEMBER, None)
    made = await desk.sign_in.accept_invite(offer.token, "Ann", PASSWORD, HERE)
    ann = made.user
    principal = msgspec.structs.replace(await desk.accounts.authenticate(made.token), address=HERE.address)
    await desk.sign_in.change_password(principal, PASSWORD, "another long password", HERE)
    link = await desk.people.reset_password(desk.admin, ann.id)
    await desk.sign_in.use_reset(link.token, PASSWORD, HERE)
    token = await desk.token_of("ann@acme.example")
    await desk.sign_in.sign_out(principal, token)
    for event, via in (
        ("invite.accepted", [None]),
        ("user.updated", ["link", "password"]),
        ("logout.succeeded", [None]),
    ):
        entries = [entry for entry in await desk.log(event_types=(event,)) if entry.actor_user_id == ann.id]
        assert [entry.details.get("via") for entry in entries] == via
        assert {(entry.actor_kind, entry.address) for entry in entries} == {("session", HERE.address)}


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET event = 'x'", "DELETE FROM audit_log"])
async def test_an_entry_is_never_changed_or_deleted(desk: PeopleDesk, statement: str) -> None:
    before = await desk.log()
    with pytest.raises(Exception, match="immutable"):
        await desk.db.write(lambda connection: connection.execute(text(statement)) and None)
    assert await desk.log() == before


async def test_no_secret_is_in_the_log(desk: PeopleDesk) -> None:
    key_id, token = await desk.key()
    rotated = await desk.keys.rotate(None, key_id, 60)
    user = await desk.add("ann@acme.example")
    link = await desk.people.reset_password(None, user.id)
    rows = await desk.db.read(lambda connection: repr([tuple(row) for row in connection.execute(audit_log.select())]))
    for secret in (token, rotated.token, link.token, PASSWORD, "ann@acme.example"):
        assert secret not in rows
        assert secret[5:] not in rows


async def test_an_organization_sees_its_own_entries_only(desk: PeopleDesk) -> None:
    boss = await desk.person("boss", Role.ADMIN)
    entries, _ = await desk.audit.list_entries(boss, AuditQuery(limit=100))
    assert {entry.organization_id for entry in entries} == {desk.organization.id}
    [foreign] = [entry for entry in await desk.log() if entry.organization_id == desk.admin.organization_id][:1]
    with pytest.raises(NotFound):
        await desk.audit.list_entries(boss, AuditQuery(after=foreign.id))
    ann = await desk.person("ann")
    with pytest.raises(PermissionDenied):
        await desk.audit.list_entries(ann, AuditQuery())


async def test_pages_meet_also_where_the_clock_stands_still(desk: PeopleDesk) -> None:
    for n in range(7):
        await desk.projects.create(desk.in_acme, f"p{n}")
    everything = [entry.id for entry in await desk.log()]
    assert len(everything) > 9
    seen: list[str] = []
    after = None
    while True:
        entries, more = await desk.audit.list_entries(None, AuditQuery(limit=3, after=after))
        seen += [entry.id for entry in entries]
        if not more:
            break
        after = seen[-1]
    assert seen == everything
    back, more = await desk.audit.list_entries(None, AuditQuery(limit=3, before=everything[5]))
    assert [entry.id for entry in back] == everything[2:5]
    assert more
    exported = [entry.id async for page in desk.audit.export(None, AuditQuery()) for entry in page]
    assert exported == everything


async def test_a_search_takes_its_text_literally(desk: PeopleDesk) -> None:
    for name in ("100%", "100x", "a_b", "axb", "tHiS"):
        await desk.projects.create(desk.in_acme, name)

    async def found(words: str) -> list[str]:
        entries = await desk.log(text=words, event_types=("project.created",))
        return sorted(entry.project_name or "" for entry in entries)

    assert await found("100%") == ["100%"]
    assert await found("a_b") == ["a_b"]
    assert await found("ThIs") == ["tHiS"]
    assert await found("'; DROP TABLE audit_log; --") == []
    assert len(await found("project.created")) == 6
    with pytest.raises(InvalidRequest):
        await found("x" * 201)


async def test_times_bound_the_search(desk: PeopleDesk, clock: FakeClock) -> None:
    start = clock.time_ns() // 10**9
    for n in range(3):
        clock.advance(10)
        await desk.projects.create(desk.in_acme, f"p{n}")

    async def names(**bounds: int) -> list[str]:
        return [entry.project_name or "" for entry in await desk.log(event_types=("project.created",), **bounds)][::-1]

    assert await names(gt=start + 10) == ["p1", "p2"]
    assert await names(gte=start + 20, lt=start + 30) == ["p1"]
    assert await names(gte=start + 10, lte=start + 20) == ["p0", "p1"]
    with pytest.raises(InvalidRequest):
        await names(gte=10**18)


async def test_a_table_of_entries_runs_no_formula(desk: PeopleDesk, clock: FakeClock) -> None:
    await desk.db.write(
        lambda connection: record(
            connection, now_ns=clock.time_ns(), actor=None, event="x.y", target_id="=cmd()",
            organization_id=desk.organization.id, details={"a": '"quoted", with comma'},
        )
    )  # fmt: skip
    entries = await desk.log(event_types=("x.y",))
    [row] = list(csv.DictReader(io.StringIO(entries_to_csv(entries, header=True))))
    assert row["target_id"] == "'=cmd()"
    assert row["details"] == '{"a":"\\"quoted\\", with comma"}'
