"""The table of responses on both databases: whole or not at all, shown, erased, expired, measured."""

from typing import Any

import orjson
from sqlalchemy import func, select

from dayspring.accounts.principals import Principal, Scope
from dayspring.chat.responses import stored
from dayspring.chat.responses.holder import StoredResponses
from dayspring.contracts.holdings import Holder, Subject
from dayspring.store.database import Database

NOW_NS = 1_700_000_000_000_000_000


def principal(project: str = "proj_a", organization: str = "org_a", **more: Any) -> Principal:
    return Principal(organization, project, "key_1", frozenset({Scope.INFERENCE}), **more)


def item(name: str) -> dict[str, Any]:
    return {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hé"}]}


def made(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "object": "response", "model": "m", "status": "completed", "output": [], **fields}


async def keep(database: Database, name: str, who: Principal, *, age_s: int = 0, **fields: Any) -> dict[str, Any]:
    """A stored response with one item on each side."""
    sent = made(name, output=[{"id": f"{name}_out", "type": "message"}], **fields.pop("object", {}))
    row = stored.Row("response", who, sent, [item(f"{name}_in")], NOW_NS - age_s * 10**9, **fields)
    await database.write(lambda connection: stored.keep(connection, row))
    return sent


async def rows(database: Database, table: Any) -> int:
    query = select(func.count()).select_from(table)
    return int(await database.read(lambda connection: connection.execute(query).scalar_one()))


async def test_body_and_items_add_up_to_what_was_sent(database: Database) -> None:
    sent = await keep(database, "resp_1", principal())

    def find(connection: Any) -> Any:
        return stored.whole(connection, stored.find(connection, "response", "resp_1", stored.seen_by(principal())))

    assert await database.read(find) == sent
    measured = await StoredResponses(database).stored_bytes("proj_a")
    parts = [{name: value for name, value in sent.items() if name != "output"}, *sent["output"], item("resp_1_in")]
    assert measured == sum(len(orjson.dumps(part)) for part in parts)


async def test_a_finished_row_is_measured_as_if_it_had_been_written_at_once(database: Database) -> None:
    await keep(database, "resp_1", principal())
    queued = stored.Row(
        "response", principal("proj_b"), made("resp_2", status="queued"), [item("resp_1_in")], NOW_NS,
        instance_id="srv_1", status="queued",
    )  # fmt: skip
    await database.write(lambda connection: stored.keep(connection, queued))
    final = made("resp_2", output=[{"id": "resp_1_out", "type": "message"}])
    assert await database.write(lambda connection: stored.finish(connection, final))
    assert not await database.write(lambda connection: stored.finish(connection, final)), "it has ended"
    holder = StoredResponses(database)
    assert await holder.stored_bytes("proj_a") == await holder.stored_bytes("proj_b")


async def test_who_may_see_a_row(database: Database) -> None:
    await keep(database, "resp_1", principal())

    async def sees(who: Principal) -> bool:
        seen = stored.seen_by(who)
        return await database.read(lambda connection: stored.find(connection, "response", "resp_1", seen)) is not None

    assert await sees(principal())
    assert not await sees(principal("proj_b"))
    assert await sees(Principal("org_a", "proj_b", "k", frozenset({Scope.MANAGE})))
    assert not await sees(Principal("org_b", "proj_b", "k", frozenset({Scope.MANAGE})))
    assert await sees(Principal("org_b", "proj_b", "k", frozenset({Scope.ADMIN})))


async def test_a_person_s_responses_are_shown_and_erased_and_nobody_else_s(database: Database) -> None:
    holder: Holder = StoredResponses(database)
    await keep(database, "resp_1", principal(user_id="user_1"))
    await keep(database, "resp_2", principal(), end_user="end_1")
    await keep(database, "resp_3", principal(), safety_identifier="end_1")
    await keep(database, "resp_4", principal(organization="org_b"), end_user="end_1")
    await keep(database, "resp_5", principal())
    shown = [held async for held in holder.export(Subject("org_a", end_user="end_1"))]
    assert [held.name for held in shown] == ["responses/resp_2.json", "responses/resp_3.json"]
    assert orjson.loads(shown[0].content)["input"] == [item("resp_2_in")]
    assert orjson.loads(shown[0].content)["output"][0]["id"] == "resp_2_out"
    assert [held async for held in holder.export(Subject("org_a"))] == []
    assert await holder.erase(Subject("org_a")) == 0
    assert await holder.erase(Subject("org_a", end_user="end_1")) == 2
    assert await holder.erase(Subject("org_a", user_id="user_1")) == 1
    assert await rows(database, stored.responses) == 2
    assert await rows(database, stored.response_items) == 4


async def test_what_is_old_expires_in_its_project_alone_but_for_what_is_being_made(database: Database) -> None:
    await keep(database, "resp_old", principal(), age_s=100)
    await keep(database, "resp_new", principal(), age_s=1)
    await keep(database, "resp_other", principal("proj_b"), age_s=100)
    await keep(database, "resp_live", principal(), age_s=100, instance_id="srv_1", status="in_progress")
    holder = StoredResponses(database)
    assert await holder.expire("proj_a", NOW_NS - 50 * 10**9) == 1
    assert await rows(database, stored.responses) == 3


async def test_pages_go_through_every_row_once_in_both_orders(database: Database) -> None:
    for number in range(7):
        await keep(database, f"resp_{number}", principal(), age_s=number // 2)
    for oldest in (True, False):
        seen: list[str] = []
        after = None
        while found := await database.read(
            lambda connection, after=after, oldest=oldest: stored.page(
                connection, "response", [], after=after, limit=3, oldest=oldest
            )
        ):
            seen += [row.id for row in found]
            after = found[-1]
        assert len(seen) == len(set(seen)) == 7
        assert seen[-1 if oldest else 0] in ("resp_0", "resp_1")
