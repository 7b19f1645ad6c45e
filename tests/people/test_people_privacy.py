"""A person's data: all of it shown, all of it gone, and the books as they were."""

import io
import json
import zipfile
from collections.abc import AsyncIterator

import msgspec
import pytest
from people_desk import PASSWORD, PeopleDesk
from sqlalchemy import text

from dayspring.accounts.administration.holding import AccountRecords
from dayspring.accounts.administration.privacy import Privacy
from dayspring.accounts.people.roles import Role
from dayspring.accounts.principals import Principal
from dayspring.accounts.service import KeyRequest
from dayspring.contracts.holdings import Held, Holder, Subject
from dayspring.core.errors import InvalidRequest, NotFound, PermissionDenied, SignInFailed, Unauthenticated
from dayspring.core.ids import new_id
from dayspring.ledger.holding import RequestAccounts
from dayspring.ledger.report_values import RequestQuery
from dayspring.ledger.reports import Reports
from dayspring.ledger.service import Ledger
from dayspring.ledger.values import ReserveRequest, Settlement
from dayspring.store import migrate
from dayspring.store.engines import make_engine
from dayspring.testing.clock import FakeClock

EMAIL = "ann@acme.example"


class Papers:
    """A room that keeps one paper of everybody."""

    kind = "papers"

    def __init__(self) -> None:
        self.kept = {"ann": b"hers", "bob": b"his"}
        self.broken = False

    async def export(self, subject: Subject) -> AsyncIterator[Held]:
        if subject.user_id and "ann" in self.kept:
            yield Held("papers/ann.txt", self.kept["ann"])

    async def erase(self, subject: Subject) -> int:
        if self.broken:
            raise OSError
        return int(bool(subject.user_id) and self.kept.pop("ann", None) is not None)

    async def expire(self, project_id: str, before_ns: int) -> int:
        return 0

    async def stored_bytes(self, project_id: str) -> int:
        return 0


class Office:
    """The desk with books, and the rooms that keep things."""

    def __init__(self, desk: PeopleDesk) -> None:
        self.desk = desk
        self.ledger = Ledger(desk.db, desk.clock, "EUR")
        self.reports = Reports(desk.db, desk.clock, "EUR")
        self.papers = Papers()
        holders: list[Holder] = [AccountRecords(desk.db), RequestAccounts(desk.db), self.papers]
        self.privacy = Privacy(desk.db, desk.clock, desk.accounts.authentication, holders)

    async def request(self, who: Principal, **notes: str) -> Settlement:
        """A settled request of 100 nano-units."""
        request_id, now_ns = new_id("req"), self.desk.clock.time_ns()
        await self.ledger.reserve(ReserveRequest(request_id, who, "m", "chat", 500))
        ended = Settlement(
            request_id=request_id, status="completed", started_at_ns=now_ns, finished_at_ns=now_ns, price_nanos=100,
            metadata=notes or None,
        )  # fmt: skip
        await self.ledger.settle(ended)
        return ended

    async def exported(self, subject: Subject) -> dict[str, bytes]:
        out = io.BytesIO()
        await self.privacy.export(None, subject, out)
        with zipfile.ZipFile(out) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    async def everything(self) -> str:
        """All that the database holds, as text."""

        def read(connection: object) -> str:
            return "\n".join(
                repr(tuple(row))
                for table in migrate.metadata.tables
                for row in connection.execute(text(f'SELECT * FROM "{table}"'))  # type: ignore[attr-defined]
            )

        return await self.desk.db.read(read)


@pytest.fixture
async def office(desk: PeopleDesk) -> Office:
    made = Office(desk)
    await made.ledger.start("home")
    return made


async def test_an_export_has_everything_and_no_secret(desk: PeopleDesk, office: Office) -> None:
    ann = await desk.person("ann")
    token = await desk.token_of(EMAIL)
    made = await desk.keys.create(ann, desk.project.id, KeyRequest(name="her laptop"))
    hers, by_key = await office.request(ann, team="a"), await office.request(made.key.principal)
    other = await office.request(await desk.person("bob"))
    files = await office.exported(await office.privacy.user(None, ann.user_id))
    assert EMAIL in files["account/user.json"].decode()
    assert "192.0.2.7" in files["account/sessions.json"].decode()
    assert "her laptop" in files["account/keys.json"].decode()
    assert {"login.succeeded", "user.added"} <= {
        entry["event"] for entry in json.loads(files["account/audit_log.json"])
    }
    lines = [json.loads(line) for line in files["requests/000001.jsonl"].splitlines()]
    assert {line["request_id"] for line in lines} == {hers.request_id, by_key.request_id}
    assert {"team": "a"} in [line["metadata"] for line in lines]
    assert files["papers/ann.txt"] == b"hers"
    assert set(json.loads(files["contents.json"])["files"]) == set(files) - {"contents.json"}
    whole = b"".join(files.values()).decode()
    for secret in (token, token[14:], made.token[13:], "argon2", PASSWORD, other.request_id, "bob@"):
        assert secret not in whole


async def test_after_an_erasure_nothing_names_the_person_and_the_books_stand(desk: PeopleDesk, office: Office) -> None:
    ann = await desk.person("ann")
    made = await desk.keys.create(ann, desk.project.id, KeyRequest(name="ann's laptop"))
    settled = [await office.request(ann, user="patient-7", note=EMAIL), await office.request(made.key.principal)]
    theirs = await office.request(await desk.person("bob"), user="patient-8")
    token = await desk.token_of(EMAIL)
    assert "patient-7" in await office.everything()
    assert await office.privacy.erase_user(desk.admin, ann.user_id) >= 5
    kept = await office.everything()
    for trace in ("ann@", "ann's", "patient-7", token[4:14]):
        assert trace not in kept
    assert "patient-8" in kept
    assert office.papers.kept == {"bob": b"his"}
    assert await office.ledger.verify() == []
    assert (await desk.accounts.budget(ann.user_id)).spent_nanos == 100
    for each in (*settled, theirs):
        assert (await office.ledger.settle(each)).price_nanos == 100, "settling again is still the same settlement"
    page = await office.reports.list_requests(desk.admin, RequestQuery())
    assert {row.id: row.metadata for row in page.data}[settled[0].request_id] is None
    for secret in (token, made.token):
        with pytest.raises(Unauthenticated):
            await desk.accounts.authenticate(secret)
    with pytest.raises(SignInFailed):
        await desk.token_of(EMAIL)
    with pytest.raises(NotFound):
        await office.privacy.user(None, ann.user_id)
    await desk.add(EMAIL)


async def test_an_end_user_is_shown_and_erased_in_one_organization_only(desk: PeopleDesk, office: Office) -> None:
    here = (await desk.accounts.authenticate((await desk.key())[1]), "safety_identifier")
    there = (await desk.accounts.authenticate(desk.token), "user")
    first, second = [await office.request(who, **{field: "patient-7"}) for who, field in (here, there)]
    unnamed = await office.request(here[0], note="x")
    boss = await desk.person("boss", Role.ADMIN)
    subject = await office.privacy.end_user(boss, "patient-7")
    lines = (await office.exported(subject))["requests/000001.jsonl"].splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [first.request_id]
    assert await office.privacy.erase_end_user(boss, "patient-7") == 1
    page = await office.reports.list_requests(desk.admin, RequestQuery())
    notes = {row.id: row.metadata for row in page.data}
    assert notes == {
        first.request_id: None,
        second.request_id: {"user": "patient-7"},
        unnamed.request_id: {"note": "x"},
    }
    assert await office.ledger.verify() == []
    told = [entry for entry in await desk.log() if entry.event.startswith("end_user")]
    assert {entry.event for entry in told} == {"end_user.erased", "end_user.exported"}
    assert "patient-7" not in repr(told)


async def test_an_erasure_that_was_cut_short_ends_when_asked_again(desk: PeopleDesk, office: Office) -> None:
    ann = await desk.person("ann")
    office.papers.broken = True
    with pytest.raises(OSError):  # noqa: PT011 - whatever the room failed with
        await office.privacy.erase_user(None, ann.user_id)
    with pytest.raises(SignInFailed):
        await desk.token_of(EMAIL)
    office.papers.broken = False
    await office.privacy.erase_user(None, ann.user_id)
    assert EMAIL not in await office.everything()


async def test_who_may_ask(desk: PeopleDesk, office: Office) -> None:
    ann, bob, boss = await desk.person("ann"), await desk.person("bob"), await desk.person("boss", Role.ADMIN)
    assert (await office.privacy.user(ann, ann.user_id)).user_id == ann.user_id
    assert (await office.privacy.user(boss, ann.user_id)).user_id == ann.user_id
    for refused in (
        office.privacy.user(bob, ann.user_id),
        office.privacy.erase_user(ann, ann.user_id),
        office.privacy.end_user(ann, "x"),
    ):
        with pytest.raises(PermissionDenied):
            await refused
    stranger = msgspec.structs.replace(boss, organization_id="org_other")
    for refused in (office.privacy.user(stranger, ann.user_id), office.privacy.erase_user(stranger, ann.user_id)):
        with pytest.raises(NotFound):
            await refused
    for name in ("", "x" * 513):
        with pytest.raises(InvalidRequest):
            await office.privacy.end_user(boss, name)
    operator = await desk.add("op@acme.example", is_operator=True)
    with pytest.raises(PermissionDenied):
        await office.privacy.erase_user(boss, operator.id)


async def test_notes_and_addresses_expire_and_the_books_do_not(
    desk: PeopleDesk, office: Office, clock: FakeClock
) -> None:
    ann = await desk.person("ann")
    old = await office.request(ann, user="a")
    clock.advance(100)
    cut = clock.time_ns()
    new = await office.request(ann, user="b")
    holder = RequestAccounts(desk.db)
    assert await holder.expire("proj_other", cut) == 0
    assert await holder.expire(desk.project.id, cut) == 1
    notes = {row.id: row.metadata for row in (await office.reports.list_requests(desk.admin, RequestQuery())).data}
    assert notes == {old.request_id: None, new.request_id: {"user": "b"}}
    located = msgspec.structs.replace(desk.in_acme, address="198.51.100.4")
    await desk.projects.rename(located, desk.project.id, "other")
    assert (await desk.log(event_types=("project.updated",)))[0].address == "198.51.100.4"
    clock.advance(1)
    assert await AccountRecords(desk.db).expire(desk.project.id, clock.time_ns()) == 1
    assert (await desk.log(event_types=("project.updated",)))[0].address is None


async def test_whom_a_request_names_twice_is_found_by_either_name_whatever_is_in_it(desk: PeopleDesk) -> None:
    office = Office(desk)
    await office.ledger.start("home")
    holder, place = RequestAccounts(desk.db), desk.in_acme
    for end_user in ("mail@patient", "digest-of-it"):
        await office.request(place, user="mail@patient", safety_identifier="digest-of-it")
        subject = Subject(place.organization_id, end_user=end_user)
        assert len([held async for held in holder.export(subject)]) == 1
        assert await holder.erase(subject) == 1
    await office.request(place, user="a\0b")  # PostgreSQL holds no NUL: it is booked all the same
    assert await holder.erase(Subject(place.organization_id, end_user="ab")) == 1


async def test_an_operator_is_erased_in_every_organization(desk: PeopleDesk) -> None:
    office = Office(desk)
    await office.ledger.start("home")
    user = await desk.add("op@acme.example", is_operator=True)
    _, elsewhere = await desk.projects.create_organization(desk.admin, "elsewhere")
    there = await desk.accounts.authenticate(await desk.token_of("op@acme.example"), elsewhere.id)
    assert there.organization_id == elsewhere.organization_id
    await desk.people.invite(desk.in_acme, "next@acme.example", Role.MEMBER, None)
    await office.request(there, note="of theirs")
    await office.privacy.erase_user(None, user.id)
    assert [row.metadata for row in (await office.reports.list_requests(desk.admin, RequestQuery())).data] == [None]


def test_notes_of_the_release_before_become_erasable_and_nothing_booked_changes(empty_database_url: str) -> None:
    url = empty_database_url
    migrate.upgrade(url)
    migrate.downgrade(url, "2026_11_21_immutable_ledger")
    columns = (
        "request_id, organization_id, project_id, key_id, model, task, status, engine, device, upstream, "
        "price_version, started_at_ns, finished_at_ns, busy_ns, input_tokens, cached_tokens, output_tokens, "
        "reserved_nanos, price_nanos, compute_cost_nanos, upstream_cost_nanos, excess_nanos, metadata, content"
    )
    numbers = "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
    engine = make_engine(url)
    with engine.connect() as connection:
        for request_id, notes in (
            ("r1", """'{"user":"patient-7","team":"a"}'"""), ("r2", "NULL"), ("r3", "'{}'"),
            ("r4", r"""'{"user":"a\u0000b","safety_identifier":"s"}'"""),
        ):  # fmt: skip
            connection.execute(
                text(
                    f"INSERT INTO requests ({columns}) VALUES ('{request_id}', 'o', 'p', 'k', 'm', 'chat', 'ok', "
                    f"'e', 'd', '', {numbers}, {notes}, 'digest')".replace(":", "\\:")
                )
            )
        connection.commit()
        before = connection.execute(text("SELECT request_id, price_nanos, busy_ns FROM requests ORDER BY 1")).all()
    migrate.upgrade(url)
    with engine.connect() as connection:
        after = connection.execute(text("SELECT request_id, price_nanos, busy_ns FROM requests ORDER BY 1")).all()
        assert [tuple(row) for row in after] == [tuple(row) for row in before]
        digests = connection.execute(text("SELECT content FROM requests ORDER BY request_id")).scalars().all()
        assert digests == ["", "digest", "", ""], "a digest made over the notes could confirm them"
        columns = "request_id, end_user, safety_identifier, metadata"
        found = connection.execute(text(f"SELECT {columns} FROM request_notes ORDER BY 1")).all()
        assert [tuple(row) for row in found] == [
            ("r1", "patient-7", "", '{"user":"patient-7","team":"a"}'), ("r3", "", "", "{}"),
            ("r4", "ab", "s", r'{"user":"a\u0000b","safety_identifier":"s"}'),
        ]  # fmt: skip
        with pytest.raises(Exception, match="immutable"):
            connection.execute(text("UPDATE requests SET price_nanos = 0"))
    engine.dispose()
    migrate.downgrade(url, "2026_11_21_immutable_ledger")
    engine = make_engine(url)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT metadata FROM requests ORDER BY request_id")).scalars().all()
        assert kept == [
            '{"user":"patient-7","team":"a"}', None, "{}", r'{"user":"a\u0000b","safety_identifier":"s"}',
        ]  # fmt: skip
    engine.dispose()
