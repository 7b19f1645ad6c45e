"""Batches from upload to files, in one process."""

from pathlib import Path

import pytest
from batches_kit import CHAT, EMBEDDINGS, batches_of, begin, chat_line, content, embedding_line, ended, files_of, jsonl
from batches_kit import upload as put

from dayspring.batches.service import NewBatch
from dayspring.core.errors import Conflict, InvalidRequest, NotFound
from live import echo_model
from server.server_house import served


async def test_every_line_is_answered_in_order_and_tokens_are_added_up(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key()
        lines = [chat_line(number) for number in range(1, 601)]
        made = await begin(house, who, jsonl(*lines), metadata={"for": "me"})
        assert (made.status, made.completion_window) == ("validating", "24h")
        batch = await ended(house, who, made.id)
        assert batch.status == "completed", batch
        assert (batch.total, batch.tally.completed, batch.tally.failed) == (600, 600, 0)
        assert batch.error_file_id is None
        assert (batch.model, batch.metadata) == ("echo", {"for": "me"})
        answers = await content(house, who, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [f"c{number}" for number in range(1, 601)]
    for number, answer in enumerate(answers, 1):
        body = answer["response"]["body"]
        assert answer["response"]["status_code"] == 200
        assert answer["error"] is None
        assert body["choices"][0]["message"]["content"] == f"line number {number}"
    used = [answer["response"]["body"]["usage"] for answer in answers]
    assert batch.tally.input_tokens == sum(each["prompt_tokens"] for each in used)
    assert batch.tally.output_tokens == sum(each["completion_tokens"] for each in used)


async def test_a_line_that_cannot_be_answered_fails_alone_in_the_one_error_shape(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key()
        lines = [
            chat_line(1),
            chat_line(2, temperature=9),
            chat_line(3, stream=True),
            chat_line(4, tools="none"),
            chat_line(5),
        ]
        batch = await ended(house, who, (await begin(house, who, jsonl(*lines))).id)
        assert (batch.status, batch.tally.completed, batch.tally.failed) == ("completed", 2, 3)
        answers = await content(house, who, batch.output_file_id)
        failures = await content(house, who, batch.error_file_id)
    assert [answer["custom_id"] for answer in answers] == ["c1", "c5"]
    assert [failure["custom_id"] for failure in failures] == ["c2", "c3", "c4"]
    for failure in failures:
        error = failure["response"]["body"]["error"]
        assert failure["response"]["status_code"] == 400
        assert set(error) == {"message", "type", "param", "code"}
    assert [f["response"]["body"]["error"]["code"] for f in failures] == [
        "malformed", "unsupported_parameter", "malformed",
    ]  # fmt: skip


async def test_a_file_that_cannot_be_a_batch_fails_with_the_lines_at_fault(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key()
        lines = [chat_line(1), chat_line(1), chat_line(3) | {"method": "GET"}, embedding_line(4)]
        lines.append(chat_line(5) | {"body": {"messages": []}})
        batch = await ended(house, who, (await begin(house, who, jsonl(*lines))).id)
        unknown = chat_line(2, model="nowhere")
        wrong = await ended(house, who, (await begin(house, who, jsonl(chat_line(1), unknown))).id)
        job = await house.app.state.jobs.get(who, batch.id)
    assert batch.status == "failed"
    assert [(fault.line, fault.code) for fault in batch.faults] == [
        (2, "duplicate_custom_id"), (3, "invalid_method"), (4, "invalid_url"), (5, "invalid_request"),
    ]  # fmt: skip
    assert batch.output_file_id is None
    assert (wrong.status, [(fault.line, fault.code) for fault in wrong.faults]) == ("failed", [(2, "not_found")])
    assert job.state == "failed"
    assert job.error is not None


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "15d"}, "completion_window"),
        ({"output_expires_s": 1}, "expires_after"),
    ],
)
async def test_what_cannot_be_a_batch_is_refused_at_once(tmp_path: Path, change: dict[str, object], param: str) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key()
        file_id = await put(house, who, jsonl(chat_line(1)))
        fields = {"input_file_id": file_id, "endpoint": CHAT} | change
        with pytest.raises(InvalidRequest) as refused:
            await batches_of(house).create(who, NewBatch(**fields))  # type: ignore[arg-type]
        assert refused.value.param == param
        other = await put(house, who, b"text", "user_data")
        with pytest.raises(InvalidRequest):
            await batches_of(house).create(who, NewBatch(input_file_id=other, endpoint=CHAT))
        with pytest.raises(NotFound):
            await batches_of(house).create(who, NewBatch(input_file_id="file_none", endpoint=CHAT))
        assert await batches_of(house).list(who) == ([], False)


async def test_the_input_may_be_deleted_once_the_batch_is_made(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key()
        batch = await begin(house, who, jsonl(*(embedding_line(number) for number in range(50))), EMBEDDINGS)
        await files_of(house).delete(who, batch.input_file_id)
        batch = await ended(house, who, batch.id)
        assert (batch.status, batch.tally.completed) == ("completed", 50)
        assert not list((tmp_path / "batches").iterdir())


async def test_a_cancelled_batch_delivers_what_was_answered(tmp_path: Path) -> None:

    async with served(tmp_path, echo_model(delay_s=0.05), batch_concurrency=2) as house:
        who, _ = await house.new_key()
        batch = await begin(house, who, jsonl(*(chat_line(number) for number in range(1, 400))))
        jobs = house.app.state.jobs
        async for event in jobs.events(who, batch.id):
            if event.type == "progress" and event.data["done"] > 2:
                break
        asked = await batches_of(house).cancel(who, batch.id)
        assert asked.status == "cancelling"
        batch = await ended(house, who, batch.id)
        assert batch.status == "cancelled"
        assert 0 < batch.tally.completed < 399
        answers = await content(house, who, batch.output_file_id)
        assert (await jobs.get(who, batch.id)).state == "cancelled"
        assert (await batches_of(house).cancel(who, batch.id)).status == "cancelled"
        await jobs.retry(who, batch.id)  # there is nothing to be done again
        assert await ended(house, who, batch.id) == batch
        assert (await jobs.get(who, batch.id)).state == "cancelled"
    assert len(answers) == batch.tally.completed
    numbers = [int(answer["custom_id"][1:]) for answer in answers]
    assert numbers == sorted(set(numbers))


async def test_a_revoked_key_stops_its_batch_with_that_reason(tmp_path: Path) -> None:

    async with served(tmp_path, echo_model(delay_s=0.05), batch_concurrency=2) as house:
        who, _ = await house.new_key()
        other, _ = await house.new_key()
        batch = await begin(house, who, jsonl(*(chat_line(number) for number in range(1, 400))))
        async for event in house.app.state.jobs.events(who, batch.id):
            if event.type == "progress" and event.data["done"] > 2:
                break
        await house.house.accounts.revoke_key(who.key_id)
        batch = await ended(house, other, batch.id)
        assert batch.status == "failed"
        assert [fault.code for fault in batch.faults] == ["invalid_api_key"]
        answers = await content(house, other, batch.output_file_id)
    assert 0 < batch.tally.completed == len(answers) < 399


async def test_a_batch_whose_time_is_over_says_so_for_every_line_left(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key()
        clock = batches_of(house)._clock

        class Late:
            def time_ns(self) -> int:
                return clock.time_ns() - 2 * 3600 * 10**9

            def monotonic_ns(self) -> int:
                return clock.monotonic_ns()

        batches_of(house)._clock = Late()
        lines = [chat_line(number) for number in range(1, 301)]
        batch = await begin(house, who, jsonl(*lines), completion_window="1h")
        batch = await ended(house, who, batch.id)
        assert (batch.status, batch.tally.completed, batch.tally.failed) == ("expired", 0, 300)
        failures = await content(house, who, batch.error_file_id)
    assert [failure["custom_id"] for failure in failures] == [line["custom_id"] for line in lines]
    assert {failure["error"]["code"] for failure in failures} == {"batch_expired"}
    assert {failure["response"] for failure in failures} == {None}


async def test_no_quota_fails_the_lines_and_not_the_batch(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key(budget_nanos=0)
        batch = await ended(house, who, (await begin(house, who, jsonl(chat_line(1), chat_line(2)))).id)
        assert (batch.status, batch.tally.failed) == ("completed", 2)
        failures = await content(house, who, batch.error_file_id)
    assert [f["response"]["body"]["error"]["code"] for f in failures] == ["insufficient_quota"] * 2
    assert {f["response"]["status_code"] for f in failures} == {429}


async def test_a_strangers_key_sees_no_batch(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        who, _ = await house.new_key()
        project = await house.house.accounts.create_project("strangers")
        stranger, _ = await house.new_key(project_id=project.id)
        batch = await ended(house, who, (await begin(house, who, jsonl(chat_line(1)))).id)
        for verb in (batches_of(house).get, batches_of(house).cancel):
            with pytest.raises(NotFound):
                await verb(stranger, batch.id)
        assert await batches_of(house).list(stranger) == ([], False)
        with pytest.raises(NotFound):
            await batches_of(house).list(stranger, after=batch.id)
        new = NewBatch(input_file_id=batch.input_file_id, endpoint=CHAT)
        with pytest.raises(NotFound):
            await batches_of(house).create(stranger, new)
        with pytest.raises(Conflict):
            await batches_of(house).cancel(who, batch.id)
