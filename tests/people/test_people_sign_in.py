"""Who is let in, for how long, and what ends it."""

import asyncio

import pytest
from people_desk import HERE, PASSWORD, PeopleDesk
from sqlalchemy import text

from dayspring.accounts.authentication import TTL_S
from dayspring.accounts.people.passwords import LONGEST, check_password
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.service import NewUser, UserChange
from dayspring.accounts.people.sign_in import Visitor
from dayspring.accounts.principals import Scope
from dayspring.accounts.service import Accounts
from dayspring.core.errors import (
    Busy,
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    SignInFailed,
    Unauthenticated,
)
from dayspring.testing.clock import FakeClock


async def test_a_session_works_like_a_key_and_names_its_user(desk: PeopleDesk) -> None:
    user = await desk.add("ann@acme.example")
    made = await desk.sign_in.with_password("ANN@acme.example ", PASSWORD, HERE)
    principal = await desk.accounts.authenticate(made.token)
    assert principal.is_session
    assert (principal.user_id, principal.key_id) == (user.id, user.id)
    assert principal.project_id == desk.project.id
    assert principal.scopes == {Scope.INFERENCE, Scope.USAGE}
    assert (await desk.accounts.budget(user.id)).spent_nanos == 0
    assert made.token not in repr(made)


@pytest.mark.parametrize(
    ("role", "in_project", "scopes"),
    [
        (Role.ADMIN, Role.VIEWER, {Scope.INFERENCE, Scope.USAGE, Scope.PROJECT, Scope.MANAGE}),
        (Role.MEMBER, Role.ADMIN, {Scope.INFERENCE, Scope.USAGE, Scope.PROJECT}),
        (Role.MEMBER, Role.MEMBER, {Scope.INFERENCE, Scope.USAGE}),
        (Role.MEMBER, Role.VIEWER, {Scope.USAGE}),
        (Role.VIEWER, Role.ADMIN, {Scope.USAGE}),
    ],
)
async def test_roles_become_scopes(desk: PeopleDesk, role: Role, in_project: Role, scopes: set[str]) -> None:
    assert (await desk.person("ann", role, in_project)).scopes == scopes


_WRONG = [
    ("ann@acme.example", "wrong password"), ("bob@acme.example", PASSWORD), ("", ""), ("%", PASSWORD),
    ("ann@acme.example", "x" * 100_000),
]  # fmt: skip


@pytest.mark.parametrize(("email", "password"), _WRONG, ids=range(len(_WRONG)))
async def test_whatever_is_wrong_has_one_answer(desk: PeopleDesk, email: str, password: str) -> None:
    await desk.add("ann@acme.example")
    with pytest.raises(SignInFailed, match="The email or the password is wrong"):
        await desk.sign_in.with_password(email, password, HERE)


async def test_an_unknown_user_costs_a_hash_too(desk: PeopleDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str | None] = []
    matches = desk.passwords.matches

    async def counted(encoded: str | None, password: str) -> tuple[bool, str | None]:
        compared.append(encoded)
        return await matches(encoded, password)

    monkeypatch.setattr(desk.passwords, "matches", counted)
    with pytest.raises(SignInFailed):
        await desk.sign_in.with_password("nobody@acme.example", PASSWORD, HERE)
    assert compared == [None]


async def test_no_password_and_no_token_is_stored(desk: PeopleDesk) -> None:
    await desk.add("ann@acme.example")
    token = await desk.token_of("ann@acme.example")

    def everything(connection: object) -> str:
        return repr([[tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))]  # type: ignore[attr-defined]
                     for table in ("users", "sessions", "audit_log", "audit_personal")])  # fmt: skip

    kept = await desk.db.read(everything)
    assert PASSWORD not in kept
    assert token[14:] not in kept
    assert "$argon2id$" in kept


async def test_a_session_ends_when_idle_and_lives_on_when_used(desk: PeopleDesk, clock: FakeClock) -> None:
    await desk.add("ann@acme.example")
    used, idle = await desk.token_of("ann@acme.example"), await desk.token_of("ann@acme.example")
    for _ in range(6):
        clock.advance(1200)
        await desk.accounts.authenticate(used)
        await desk.noted()
    with pytest.raises(Unauthenticated):
        await desk.accounts.authenticate(idle)


async def test_a_session_ends_however_much_it_is_used(desk: PeopleDesk, clock: FakeClock) -> None:
    await desk.add("ann@acme.example")
    token = await desk.token_of("ann@acme.example")
    for _ in range(71):
        clock.advance(1200)
        await desk.accounts.authenticate(token)
        await desk.noted()
    clock.advance(1200)
    with pytest.raises(Unauthenticated):
        await desk.accounts.authenticate(token)
    assert await desk.sign_in.sweep() == 1


async def test_signing_out_ends_that_session_at_once(desk: PeopleDesk) -> None:
    principal = await desk.person("ann")
    first, second = await desk.token_of("ann@acme.example"), await desk.token_of("ann@acme.example")
    await desk.accounts.authenticate(first)
    await desk.sign_in.sign_out(principal, first)
    with pytest.raises(Unauthenticated):
        await desk.accounts.authenticate(first)
    assert (await desk.accounts.authenticate(second)).user_id == principal.user_id


async def test_one_sees_and_ends_only_ones_own_sessions(desk: PeopleDesk) -> None:
    ann, bob = await desk.person("ann"), await desk.person("bob")
    [session] = await desk.sign_in.list_sessions(ann)
    assert (session.address, session.user_agent) == ("192.0.2.7", "test")
    with pytest.raises(NotFound):
        await desk.sign_in.end_session(bob, session.id)
    await desk.sign_in.end_session(ann, session.id)
    assert await desk.sign_in.list_sessions(ann) == []
    with pytest.raises(PermissionDenied):
        await desk.sign_in.list_sessions(desk.admin)


@pytest.mark.parametrize("how", ["removed", "role", "password", "reset"])
async def test_sessions_end_at_once_when_the_person_changes(desk: PeopleDesk, how: str) -> None:
    principal = await desk.person("ann")
    token = await desk.token_of("ann@acme.example")
    await desk.accounts.authenticate(token)
    if how == "removed":
        await desk.people.remove(desk.admin, principal.user_id)
    elif how == "role":
        await desk.people.change(desk.admin, principal.user_id, UserChange(role=Role.VIEWER))
    elif how == "password":
        await desk.sign_in.change_password(principal, PASSWORD, "another long password", HERE)
    else:
        link = await desk.people.reset_password(desk.admin, principal.user_id)
        await desk.sign_in.use_reset(link.token, "another long password", HERE)
    with pytest.raises(Unauthenticated):
        await desk.accounts.authenticate(token)


async def test_another_process_ends_a_session_within_a_second(desk: PeopleDesk, clock: FakeClock) -> None:
    principal = await desk.person("ann")
    token = await desk.token_of("ann@acme.example")
    elsewhere = Accounts(desk.db, clock)
    await elsewhere.authenticate(token)
    await desk.people.remove(desk.admin, principal.user_id)
    clock.advance(TTL_S)
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(token)


async def test_the_project_is_chosen_at_sign_in_or_by_header(desk: PeopleDesk) -> None:
    ann = await desk.add("ann@acme.example", Role.MEMBER)
    here = desk.in_acme
    other = await desk.projects.create(here, "other")
    closed = await desk.projects.create(here, "closed")
    await desk.projects.open_to(here, other.id, Role.VIEWER, user_id=ann.id)
    token = await desk.token_of("ann@acme.example", project_id=other.id)
    assert (await desk.accounts.authenticate(token)).scopes == {Scope.USAGE}
    assert (await desk.accounts.authenticate(token, desk.project.id)).scopes == {Scope.INFERENCE, Scope.USAGE}
    for project_id in (closed.id, desk.admin.project_id, "proj_none", "x" * 5000, "%"):
        with pytest.raises((NotFound, Unauthenticated)):
            await desk.accounts.authenticate(token, project_id)
        with pytest.raises(NotFound):
            await desk.token_of("ann@acme.example", project_id=project_id)


async def test_an_archived_project_ends_sessions_work_in_it(desk: PeopleDesk) -> None:
    await desk.add("ann@acme.example")
    token = await desk.token_of("ann@acme.example")
    assert (await desk.accounts.authenticate(token)).may(Scope.INFERENCE)
    await desk.projects.archive(desk.in_acme, desk.project.id)
    assert (await desk.accounts.authenticate(token)).scopes == frozenset()


async def test_guessing_is_slowed_down_for_the_guesser_and_not_for_the_owner(
    desk: PeopleDesk, clock: FakeClock
) -> None:
    await desk.add("ann@acme.example")
    thief = Visitor("203.0.113.9")
    for _ in range(5):
        with pytest.raises(SignInFailed):
            await desk.sign_in.with_password("ann@acme.example", "guess guess guess", thief)
    with pytest.raises(Busy):
        await desk.sign_in.with_password("ann@acme.example", PASSWORD, thief)
    await desk.sign_in.with_password("ann@acme.example", PASSWORD, HERE)
    clock.advance(1)
    await desk.sign_in.with_password("ann@acme.example", PASSWORD, thief)


async def test_many_guesses_at_once_are_as_slow_as_one_after_the_other(desk: PeopleDesk) -> None:
    await desk.add("ann@acme.example")
    thief = Visitor("203.0.113.9")
    tries = [desk.sign_in.with_password("ann@acme.example", f"guess number {n}", thief) for n in range(40)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, SignInFailed) for outcome in outcomes) == 5
    assert sum(isinstance(outcome, Busy) for outcome in outcomes) == 35


async def test_one_address_cannot_try_many_accounts(desk: PeopleDesk) -> None:
    outcomes = []
    for n in range(40):
        try:
            await desk.sign_in.with_password(f"user{n}@acme.example", PASSWORD, HERE)
        except (SignInFailed, Busy) as error:
            outcomes.append(type(error))
    assert outcomes.count(SignInFailed) == 30


@pytest.mark.parametrize("password", ["", "short", "x" * (LONGEST + 1), "aaaaaaaaaaaaaaaa", "Ann@Acme.Example"])
def test_a_password_too_easy_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(InvalidRequest):
        check_password(password, "ann@acme.example")


async def test_a_link_sets_a_password_once_and_in_time(desk: PeopleDesk, clock: FakeClock) -> None:
    user, link = await desk.people.add(None, NewUser(email="new@acme.example"))
    assert link is not None
    assert link.token not in repr(link)
    with pytest.raises(InvalidRequest, match="password"):
        await desk.sign_in.use_reset(link.token, "short", HERE)
    assert (await desk.sign_in.use_reset(link.token, PASSWORD, HERE)).id == user.id
    with pytest.raises(InvalidRequest, match="link"):
        await desk.sign_in.use_reset(link.token, PASSWORD, HERE)
    await desk.token_of("new@acme.example")
    late = await desk.people.reset_password(None, user.id)
    clock.advance(86_400)
    with pytest.raises(InvalidRequest, match="link"):
        await desk.sign_in.use_reset(late.token, PASSWORD, HERE)


async def test_of_two_uses_of_one_link_at_once_one_wins(desk: PeopleDesk) -> None:
    _, link = await desk.people.add(None, NewUser(email="new@acme.example"))
    assert link is not None
    words = ["the first password", "the other password"]
    outcomes = await asyncio.gather(
        *(desk.sign_in.use_reset(link.token, word, HERE) for word in words), return_exceptions=True
    )
    assert sum(isinstance(outcome, InvalidRequest) for outcome in outcomes) == 1


@pytest.mark.parametrize("token", ["", "dsr-", "dsr-" + "A" * 43, "dss-" + "A" * 43, "x" * 10_000, "dsr-" + "é" * 43])
async def test_a_strangers_link_is_refused(desk: PeopleDesk, token: str) -> None:
    with pytest.raises(InvalidRequest, match="link"):
        await desk.sign_in.use_reset(token, PASSWORD, HERE)
    with pytest.raises(InvalidRequest, match="link"):
        await desk.sign_in.accept_invite(token, "", PASSWORD, HERE)


async def test_an_invitation_makes_the_user_once(desk: PeopleDesk, clock: FakeClock) -> None:
    admin = await desk.person("boss", Role.ADMIN)
    invite, link = await desk.people.invite(admin, "New@acme.example", Role.MEMBER, ((desk.project.id, Role.VIEWER),))
    assert invite.status(clock.time_ns()) == "pending"
    made = await desk.sign_in.accept_invite(link.token, "New Person", PASSWORD, HERE)
    assert (made.user.email, made.user.role, made.user.name) == ("New@acme.example", Role.MEMBER, "New Person")
    assert (await desk.accounts.authenticate(made.token)).scopes == {Scope.USAGE}
    with pytest.raises(InvalidRequest):
        await desk.sign_in.accept_invite(link.token, "", PASSWORD, HERE)
    assert (await desk.people.get_invite(admin, invite.id)).status(clock.time_ns()) == "accepted"
    with pytest.raises(Conflict):
        await desk.people.invite(admin, "new@ACME.example", Role.MEMBER, None)


async def test_an_invitation_ends_by_time_by_withdrawal_and_by_another(desk: PeopleDesk, clock: FakeClock) -> None:
    admin = await desk.person("boss", Role.ADMIN)
    invite, withdrawn = await desk.people.invite(admin, "a@acme.example", Role.MEMBER, None)
    await desk.people.withdraw_invite(admin, invite.id)
    _, replaced = await desk.people.invite(admin, "b@acme.example", Role.MEMBER, None)
    _, late = await desk.people.invite(admin, "b@acme.example", Role.MEMBER, None)
    clock.advance(7 * 86_400)
    for link in (withdrawn, replaced, late):
        with pytest.raises(InvalidRequest):
            await desk.sign_in.accept_invite(link.token, "", PASSWORD, HERE)


async def test_sessions_do_not_leave_the_organization_when_the_token_is_a_key(desk: PeopleDesk) -> None:
    _, token = await desk.key()
    principal = await desk.accounts.authenticate(token, "proj_of_somebody")
    assert principal.project_id == desk.project.id
    assert not principal.is_session
