"""Keys that are rotated, changed and owned, and who may do that to which."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people_desk import PeopleDesk

from dayspring.accounts.administration.keys import LONGEST_GRACE_S, KeyChange
from dayspring.accounts.authentication import TTL_S
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.service import NewUser, UserChange
from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.service import Accounts, KeyRequest
from dayspring.core.errors import Conflict, DayspringError, InvalidRequest, NotFound, PermissionDenied, Unauthenticated
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock


async def works(desk: PeopleDesk, token: str) -> bool:
    try:
        await desk.accounts.authenticate(token)
    except Unauthenticated:
        return False
    return True


async def test_the_old_secret_works_until_the_grace_ends(desk: PeopleDesk, clock: FakeClock) -> None:
    key_id, old = await desk.key(budget_nanos=500)
    rotated = await desk.keys.rotate(None, key_id, 600)
    assert rotated.key.id == key_id
    assert (await desk.accounts.authenticate(old)).key_id == (await desk.accounts.authenticate(rotated.token)).key_id
    assert (await desk.accounts.budget(key_id)).left_nanos == 500
    clock.advance(599)
    assert await works(desk, old)
    clock.advance(1)
    assert not await works(desk, old)
    assert await works(desk, rotated.token)


async def test_a_rotation_without_grace_ends_the_old_secret_at_once(desk: PeopleDesk, clock: FakeClock) -> None:
    key_id, old = await desk.key()
    elsewhere = Accounts(desk.db, clock)
    await elsewhere.authenticate(old)
    assert await works(desk, old)
    rotated = await desk.keys.rotate(None, key_id)
    assert not await works(desk, old)
    assert await works(desk, rotated.token)
    clock.advance(TTL_S)
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(old)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the database is made once; each example has a key of its own
@given(steps=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), min_size=1, max_size=6))
def test_exactly_the_newest_secret_and_the_one_before_in_its_grace_work(
    database_url: str, steps: list[tuple[int, int]]
) -> None:
    async def run() -> None:
        clock, db = FakeClock(), Database.open(database_url)
        desk = PeopleDesk(db, clock)
        try:
            await desk.accounts.bootstrap("EUR")  # by the first example
            made = await desk.accounts.create_key(KeyRequest(name="x"))
            secrets: list[str] = [made.token]
            until: list[int | None] = [None]
            for wait_s, grace_s in steps:
                clock.advance(wait_s)
                now = clock.time_ns()
                rotated = await desk.keys.rotate(None, made.key.id, grace_s)
                until[-1] = now + grace_s * 10**9
                if len(until) > 1:
                    until[-2] = min(until[-2] or now, now)
                secrets.append(rotated.token)
                until.append(None)
            for wait_s in (0, 450, 500):
                clock.advance(wait_s)
                expected = [end is None or clock.time_ns() < end for end in until]
                assert [await works(desk, secret) for secret in secrets] == expected
        finally:
            db.close()

    asyncio.run(run())


@pytest.mark.parametrize("grace_s", [-1, LONGEST_GRACE_S + 1])
async def test_a_grace_out_of_bounds_is_refused(desk: PeopleDesk, grace_s: int) -> None:
    key_id, _ = await desk.key()
    with pytest.raises(InvalidRequest, match="grace"):
        await desk.keys.rotate(None, key_id, grace_s)


async def test_an_ended_key_is_not_brought_back(desk: PeopleDesk, clock: FakeClock) -> None:
    key_id, _ = await desk.key(expires_at_ns=clock.time_ns() + 10**9)
    clock.advance(1)
    for attempt in (
        desk.keys.rotate(None, key_id, 60),
        desk.keys.change(None, key_id, KeyChange(expires_at_ns=None), None),
    ):
        with pytest.raises(Conflict):
            await attempt
    await desk.keys.revoke(None, key_id)
    with pytest.raises(NotFound):
        await desk.keys.rotate(None, key_id)


async def test_a_changed_key_is_changed_at_once(desk: PeopleDesk, clock: FakeClock) -> None:
    key_id, token = await desk.key()
    assert (await desk.accounts.authenticate(token)).may_use("anything")
    models, end = frozenset({"a"}), clock.time_ns() + 60 * 10**9
    await desk.keys.change(None, key_id, KeyChange(allowed_models=models, expires_at_ns=end, name="other"), None)
    assert not (await desk.accounts.authenticate(token)).may_use("anything")
    clock.advance(60)
    assert not await works(desk, token)


async def test_an_archived_projects_keys_stop_at_once(desk: PeopleDesk) -> None:
    key_id, token = await desk.key()
    assert await works(desk, token)
    await desk.projects.archive(desk.in_acme, desk.project.id)
    assert not await works(desk, token)
    with pytest.raises(Conflict):
        await desk.keys.create(desk.in_acme, desk.project.id, KeyRequest(name="late"))
    assert (await desk.accounts.budget(key_id)).spent_nanos == 0


async def test_a_persons_key_can_do_no_more_than_the_person(desk: PeopleDesk) -> None:
    ann = await desk.add("ann@acme.example", Role.MEMBER)
    _, token = await desk.key(user_id=ann.id)
    principal = await desk.accounts.authenticate(token)
    assert (principal.user_id, principal.is_session) == (ann.id, False)
    assert principal.scopes == {Scope.INFERENCE, Scope.USAGE}
    await desk.people.change(None, ann.id, UserChange(role=Role.VIEWER))
    assert (await desk.accounts.authenticate(token)).scopes == {Scope.USAGE}
    await desk.people.change(None, ann.id, UserChange(role=Role.MEMBER))
    await desk.projects.close_to(desk.in_acme, desk.project.id, ann.id)
    assert (await desk.accounts.authenticate(token)).scopes == frozenset()
    await desk.people.remove(None, ann.id)
    assert not await works(desk, token)


async def test_people_make_rotate_and_end_their_own_keys_only(desk: PeopleDesk) -> None:
    ann, bob = await desk.person("ann"), await desk.person("bob")
    hers = await desk.keys.create(ann, desk.project.id, KeyRequest(name="laptop"))
    assert hers.key.user_id == ann.user_id
    assert [key.id for key in await desk.keys.list_keys(ann, desk.project.id)] == [hers.key.id]
    assert await desk.keys.list_keys(bob, desk.project.id) == []
    for refused in (
        desk.keys.rotate(bob, hers.key.id),
        desk.keys.revoke(bob, hers.key.id),
        desk.keys.get(bob, hers.key.id),
    ):
        with pytest.raises(NotFound):
            await refused
    with pytest.raises(PermissionDenied):
        await desk.keys.create(ann, desk.project.id, KeyRequest(name="his", user_id=bob.user_id))
    with pytest.raises(PermissionDenied):
        await desk.keys.create(ann, desk.project.id, KeyRequest(name="rich", budget_nanos=10))
    with pytest.raises(PermissionDenied):
        await desk.keys.create(ann, desk.project.id, KeyRequest(name="more", scopes=frozenset({Scope.MANAGE})))
    assert await works(desk, (await desk.keys.rotate(ann, hers.key.id)).token)
    await desk.keys.revoke(ann, hers.key.id)


_GRANTS = [
    (Role.ADMIN, Role.MEMBER, {Scope.ADMIN}),
    (Role.MEMBER, Role.ADMIN, {Scope.ADMIN}),
    (Role.MEMBER, Role.ADMIN, {Scope.MANAGE}),
]


@pytest.mark.parametrize(("role", "in_project", "scopes"), _GRANTS)
async def test_nobody_makes_or_takes_over_a_key_that_may_do_more(
    desk: PeopleDesk, role: Role, in_project: Role, scopes: set[str]
) -> None:
    asking = await desk.person("ann", role, in_project)
    key_id, _ = await desk.key(scopes=frozenset(scopes))
    plain, _ = await desk.key()
    for refused in (
        desk.keys.create(asking, desk.project.id, KeyRequest(name="x", scopes=frozenset(scopes))),
        desk.keys.rotate(asking, key_id),
        desk.keys.revoke(asking, key_id),
        desk.keys.change(asking, plain, KeyChange(scopes=frozenset(scopes)), None),
    ):
        with pytest.raises(PermissionDenied):
            await refused


async def test_nobody_gets_round_the_models_of_a_key_by_making_or_taking_another(desk: PeopleDesk) -> None:
    manages = {"scopes": frozenset({Scope.INFERENCE, Scope.PROJECT, Scope.MANAGE})}
    _, token = await desk.key(**manages, allowed_models=frozenset({"small"}))
    asking = await desk.accounts.authenticate(token)
    whole, _ = await desk.key()
    small, _ = await desk.key(allowed_models=frozenset({"small"}))
    for refused in (
        desk.keys.create(asking, desk.project.id, KeyRequest(name="x")),
        desk.keys.create(asking, desk.project.id, KeyRequest(name="x", allowed_models=frozenset({"small", "big"}))),
        desk.keys.rotate(asking, whole),
        desk.keys.change(asking, small, KeyChange(allowed_models=None), None),
    ):
        with pytest.raises(PermissionDenied):
            await refused
    own = frozenset({"small"})
    made = await desk.keys.create(asking, desk.project.id, KeyRequest(name="x", allowed_models=own))
    _, robot = await desk.keys.create_service_account(asking, desk.project.id, "robot")
    admin = await desk.keys.create_admin(asking, "admin", None)
    assert robot is not None
    assert [each.key.allowed_models for each in (made, robot, admin)] == [own] * 3


async def test_a_key_in_the_name_of_another_is_made_by_who_may_do_as_much(desk: PeopleDesk) -> None:
    asking = await desk.person("ann", Role.MEMBER, Role.ADMIN)
    boss, bob = await desk.add("boss@acme.example", Role.ADMIN), await desk.add("bob@acme.example")
    with pytest.raises(PermissionDenied):
        await desk.keys.create(asking, desk.project.id, KeyRequest(name="x", user_id=boss.id))
    made = await desk.keys.create(asking, desk.project.id, KeyRequest(name="x", user_id=bob.id))
    assert (await desk.accounts.authenticate(made.token)).user_id == bob.id


async def test_an_administrators_key_is_made_though_the_first_project_is_archived(desk: PeopleDesk) -> None:
    await desk.projects.archive(desk.in_acme, desk.project.id)
    with pytest.raises(Conflict):
        await desk.keys.create_admin(desk.in_acme, "admin", None)
    other = await desk.projects.create(desk.in_acme, "other")
    made = await desk.keys.create_admin(desk.in_acme, "admin", None)
    assert made.key.project_id == other.id
    assert (await desk.accounts.authenticate(made.token)).may(Scope.MANAGE)


async def test_nobody_takes_over_an_operator(desk: PeopleDesk) -> None:
    boss = await desk.person("boss", Role.ADMIN)
    operator = await desk.add("op@acme.example", Role.MEMBER, is_operator=True)
    for refused in (
        desk.people.reset_password(boss, operator.id),
        desk.people.remove(boss, operator.id),
        desk.people.change(boss, operator.id, UserChange(role=Role.VIEWER)),
        desk.people.change(boss, boss.user_id, UserChange(is_operator=True)),
        desk.people.add(boss, NewUser(email="x@acme.example", is_operator=True)),
    ):
        with pytest.raises(PermissionDenied):
            await refused
    assert (await desk.signed_in("op@acme.example")).is_admin


def _attempts(
    desk: PeopleDesk, actor: Principal, key_id: str, user_id: str, invite_id: str
) -> list[Callable[[], Awaitable[object]]]:
    """Every verb, on what is acme's."""
    project = desk.project.id
    return [
        lambda: desk.projects.get(actor, project),
        lambda: desk.projects.rename(actor, project, "mine"),
        lambda: desk.projects.archive(actor, project),
        lambda: desk.projects.members(actor, project),
        lambda: desk.projects.member(actor, project, user_id),
        lambda: desk.projects.open_to(actor, project, Role.ADMIN, user_id=actor.user_id or user_id),
        lambda: desk.projects.close_to(actor, project, user_id),
        lambda: desk.projects.retention(actor, project),
        lambda: desk.projects.set_retention(actor, project, {"files": 1}),
        lambda: desk.projects.quota(actor, project),
        lambda: desk.projects.set_quota(actor, project, 1),
        lambda: desk.projects.get_organization(actor, desk.organization.id),
        lambda: desk.keys.create(actor, project, KeyRequest(name="mine")),
        lambda: desk.keys.list_keys(actor, project),
        lambda: desk.keys.get(actor, key_id),
        lambda: desk.keys.change(actor, key_id, KeyChange(name="mine"), None),
        lambda: desk.keys.rotate(actor, key_id),
        lambda: desk.keys.revoke(actor, key_id),
        lambda: desk.keys.create_service_account(actor, project, "mine"),
        lambda: desk.keys.list_service_accounts(actor, project),
        lambda: desk.people.get(actor, user_id),
        lambda: desk.people.change(actor, user_id, UserChange(role=Role.VIEWER)),
        lambda: desk.people.remove(actor, user_id),
        lambda: desk.people.reset_password(actor, user_id),
        lambda: desk.people.get_invite(actor, invite_id),
        lambda: desk.people.withdraw_invite(actor, invite_id),
        lambda: desk.people.add(actor, NewUser(email="spy@x.example", organization_id=desk.organization.id)),
    ]


async def _refusal(attempt: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(DayspringError) as refused:
        await attempt()
    return f"{type(refused.value).__name__}: {refused.value.message}"


async def test_another_organizations_things_are_as_what_does_not_exist(desk: PeopleDesk) -> None:
    ann = await desk.add("ann@acme.example")
    key_id, token = await desk.key()
    invite, _ = await desk.people.invite(desk.in_acme, "new@acme.example", Role.MEMBER, None)
    other, project = await desk.projects.create_organization(None, "other")
    made = await desk.keys.create_admin(msgspec.structs.replace(desk.admin, organization_id=other.id), "stranger", None)
    stranger = await desk.accounts.authenticate(made.token)
    assert stranger.project_id == project.id
    real = [await _refusal(attempt) for attempt in _attempts(desk, stranger, key_id, ann.id, invite.id)]
    desk_project, desk_organization = desk.project, desk.organization
    desk.project = msgspec.structs.replace(desk_project, id="proj_none")
    desk.organization = msgspec.structs.replace(desk_organization, id="org_none")
    none = [await _refusal(attempt) for attempt in _attempts(desk, stranger, "key_none", "user_none", "invite_none")]
    names = {desk_project.id: "proj_none", key_id: "key_none", ann.id: "user_none", invite.id: "invite_none",
             desk_organization.id: "org_none"}  # fmt: skip
    for found, expected in zip(real, none, strict=True):
        for name, nothing in names.items():
            found = found.replace(name, nothing)
        assert found == expected
        assert found.startswith("NotFound")
    assert await desk.people.list_users(stranger) == []
    assert {found.id for found in await desk.projects.list_projects(stranger)} == {project.id}
    assert {key.id for key in await desk.keys.list_admin(stranger)} == {made.key.id}
    assert await works(desk, token)


async def test_a_plain_key_manages_nothing(desk: PeopleDesk) -> None:
    ann = await desk.add("ann@acme.example")
    key_id, token = await desk.key()
    invite, _ = await desk.people.invite(desk.in_acme, "new@acme.example", Role.MEMBER, None)
    plain = await desk.accounts.authenticate(token)
    allowed = []
    for number, attempt in enumerate(_attempts(desk, plain, key_id, ann.id, invite.id)):
        try:
            await attempt()
        except (PermissionDenied, NotFound):
            continue
        allowed.append(number)
    assert allowed == [0, 7, 9, 11], "it reads its own project and organization, and changes nothing"
