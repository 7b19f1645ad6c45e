"""A batch whose server is killed again and again: the small version of tests/soak/test_soak_batches.py."""

import asyncio
import contextlib
import random
from pathlib import Path

import pytest
from batches_kit import CHAT, chat_line
from batches_live import check_books, create, download, finish, killed_often, without_times

from dayspring.core.money import Rate, Unit
from dayspring.store.failpoints import EXIT_CODE
from live import LiveServer, echo_model

LINES = 200
KILLS = 3
PRICE = {Unit.INPUT_TOKEN: Rate(2_000, 1), Unit.REQUEST: Rate(1_000, 1)}


async def test_a_batch_killed_with_its_server_is_what_one_run_makes_and_billed_once(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    server = LiveServer(tmp_path, DAYSPRING_BATCH_CONCURRENCY="2")
    key = await server.prepare(echo_model(delay_s=0.01), price=PRICE)
    lines = [chat_line(number) for number in range(1, LINES + 1)]
    whole = LiveServer(tmp_path / "whole")
    whole.home.mkdir()
    whole_key = await whole.prepare(echo_model(), price=PRICE)
    await whole.start()
    done = await finish(whole, whole_key, await create(whole, whole_key, lines, CHAT))
    expected = without_times(await download(whole, whole_key, done["output_file_id"]))
    assert await whole.stop() == 0
    await server.start()
    try:
        batch_id = await create(server, key, lines, CHAT)
        instants = sorted(dice.uniform(0, 0.9) for _ in range(KILLS))
        batch, _ = await killed_often(server, key, batch_id, instants, dice, 0.2)
        assert batch["status"] == "completed", (seed, batch)
        assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
        assert batch["usage"] == done["usage"]
        answers = await download(server, key, batch["output_file_id"])
        assert await server.stop() == 0
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in lines]
    assert without_times(answers) == expected, seed
    used = [answer["response"]["body"]["usage"]["prompt_tokens"] for answer in answers]
    price = {number: 2_000 * tokens + 1_000 for number, tokens in enumerate(used, 1)}
    await check_books(tmp_path, batch_id, price)


POINTS = (
    "batches.line-kept:40",
    "store.before-commit:30",
    "batches.before-chunk:1",
    "batches.after-chunk:1",
    "batches.before-file:2",
    "batches.after-file:1",
    "batches.before-end:1",
)
"""Of a batch of three chunks, in an order in which it meets each."""


async def test_a_batch_survives_a_death_at_every_fail_point_in_a_row(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYSPRING_DATABASE_URL", database_url)
    server = LiveServer(tmp_path)
    key = await server.prepare(echo_model(), price=PRICE)
    lines = [chat_line(number) for number in range(1, 601)]
    lines[99]["body"]["temperature"] = 9
    await server.start()
    batch_id = ""
    try:
        for point in POINTS:
            await server.stop()
            server.environment["DAYSPRING_FAILPOINT"] = point
            with contextlib.suppress(RuntimeError):  # it died before it was ready
                await server.start()
                batch_id = batch_id or await create(server, key, lines, CHAT)
            assert server.process is not None
            assert await asyncio.to_thread(server.process.wait, 60) == EXIT_CODE, point
        server.environment["DAYSPRING_FAILPOINT"] = ""
        await server.start()
        batch = await finish(server, key, batch_id)
        assert batch["status"] == "completed", batch
        assert batch["request_counts"] == {"total": 600, "completed": 599, "failed": 1}
        answers = await download(server, key, batch["output_file_id"])
        failures = await download(server, key, batch["error_file_id"])
        assert await server.stop() == 0
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()
    assert [failure["custom_id"] for failure in failures] == ["c100"]
    assert [answer["custom_id"] for answer in answers] == [f"c{n}" for n in range(1, 601) if n != 100]
    said = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]
    assert said == [f"line number {n}" for n in range(1, 601) if n != 100]
    used = {n: 2_000 * 3 + 1_000 for n in range(1, 601) if n != 100}
    await check_books(tmp_path, batch_id, used)
    assert not list((tmp_path / "batches").iterdir())
