"""Pictures, adapters and prompt prefixes through a real server and the official client, to the last nano-unit."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import aiohttp
import openai
import orjson
import pytest
from default_pack import CHAT

from dayspring.core.money import Unit
from dayspring.core.settings import Settings
from dayspring.server.house import House
from live import PRICE, LiveServer, Started
from tiny_models import PICTURE_TOKENS, TinyLora, TinyText, png, write_eyes, write_lora, write_text

TEXT = TinyText()
RED, BLUE = (f"data:image/png;base64,{base64.b64encode(png(colour)).decode()}" for colour in ((255, 0, 0), (0, 0, 255)))


@pytest.fixture(scope="module")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """`tiny`, which sees, at a price; `style`, an adapter of it, without one; `dear`, another, at its own."""
    server = LiveServer(tmp_path_factory.mktemp("tiny-home"), DAYSPRING_SLOTS="3")
    key = asyncio.run(server.prepare())
    made = tmp_path_factory.mktemp("tiny")
    (made / "tiny").mkdir()
    write_text(made / "tiny" / "tiny.gguf", TEXT)
    write_eyes(made / "tiny" / "mmproj-tiny.gguf")
    server.command("models", "add", f"file:{made / 'tiny'}", "--id", "tiny", "--yes")
    for name in ("style", "dear"):
        file = write_lora(made / f"{name}.gguf", TinyLora(TEXT, seed=len(name)))
        server.command("models", "add", f"file:{file}", "--id", name, "--base", "tiny", "--yes")
    server.command("prices", "set", "tiny", "--input", "0.15", "--cached", "0.075", "--output", "0.60")
    server.command("prices", "set", "dear", "--input", "1.50", "--cached", "0.75", "--output", "6.00")
    asyncio.run(server.start())
    yield Started(server, key)
    assert asyncio.run(server.stop()) == 0


def client(started: Started, key: str = "") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=started.base_url, api_key=key or started.key, max_retries=0)


def look(*urls: str, text: str = "What is it?") -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "auto"}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]


def price_of(usage: Any, times: int = 1) -> int:
    cached = usage.prompt_tokens_details.cached_tokens
    return times * (
        PRICE[Unit.INPUT_TOKEN].of(usage.prompt_tokens - cached)
        + PRICE[Unit.CACHED_TOKEN].of(cached)
        + PRICE[Unit.OUTPUT_TOKEN].of(usage.completion_tokens)
    )


async def other_project(started: Started) -> str:
    """A key of a project of its own."""
    with House.open(Settings(home=started.server.home)) as house:
        project = await house.accounts.create_project("other")
    return (await started.server.key(project_id=project.id))[1]


async def test_a_picture_is_seen_counted_and_charged(tiny_server: Started) -> None:
    async with client(tiny_server) as ask:
        told = []
        for urls in ((), (RED,), (BLUE,)):
            raw = await ask.chat.completions.with_raw_response.create(
                model="tiny", messages=look(*urls), temperature=0, max_tokens=8
            )  # type: ignore[call-overload]
            answer = raw.parse()
            told.append((answer.choices[0].message.content, answer.usage.prompt_tokens))
            assert int(raw.headers["x-dayspring-price-nanos"]) == price_of(answer.usage)
    assert len({text for text, _ in told}) == 3
    assert [tokens - told[0][1] for _, tokens in told] == [0, PICTURE_TOKENS, PICTURE_TOKENS]


async def test_a_picture_needs_no_more_budget_than_its_tokens_cost(tiny_server: Started) -> None:
    most = PRICE[Unit.INPUT_TOKEN].of(700) + PRICE[Unit.OUTPUT_TOKEN].of(1)
    _, key = await tiny_server.server.key(budget_nanos=most)
    large = f"data:image/png;base64,{base64.b64encode(png((1, 2, 3), 900, 900) + bytes(500_000)).decode()}"
    async with client(tiny_server, key) as ask:
        answer = await ask.chat.completions.create(model="tiny", messages=look(large), max_tokens=1)  # type: ignore[arg-type]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens < 100


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://127.0.0.1/a.png", "private"),
        ("http://example.com/a.png", "HTTPS"),
        ("data:image/png;base64,AAAA", "no picture"),
        ("data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(), "SVG"),
    ],
)
async def test_what_is_no_picture_for_us_is_a_400_that_names_its_place(
    tiny_server: Started, url: str, told: str
) -> None:
    async with client(tiny_server) as ask:
        with pytest.raises(openai.BadRequestError) as caught:
            await ask.chat.completions.create(model="tiny", messages=look(url))  # type: ignore[arg-type]
    assert caught.value.param == "messages.0.content.1.image_url"
    assert told in str(caught.value)


async def test_a_model_without_eyes_refuses_a_picture_by_name(echo_server: Started) -> None:
    async with client(echo_server) as ask:
        with pytest.raises(openai.BadRequestError, match="reads no pictures") as caught:
            await ask.chat.completions.create(model="echo", messages=look(RED))  # type: ignore[arg-type]
    assert caught.value.code == "unsupported_parameter"


async def test_a_prompt_that_comes_again_is_cached_in_every_form_of_answer_and_in_the_books(
    tiny_server: Started,
) -> None:
    text = "A prompt of some length that comes again. " * 5
    messages = [{"role": "user", "content": text}]
    async with client(tiny_server) as ask:
        first = await ask.chat.completions.create(model="tiny", messages=messages, max_tokens=1)  # type: ignore[arg-type]
        raw = await ask.chat.completions.with_raw_response.create(model="tiny", messages=messages, max_tokens=1)  # type: ignore[arg-type]
        again = raw.parse()
        stream = await ask.chat.completions.create(
            model="tiny", messages=messages, max_tokens=1, stream=True, stream_options={"include_usage": True}
        )  # type: ignore[call-overload]
        streamed = [chunk.usage async for chunk in stream if chunk.usage][-1]
        plain = [(await ask.completions.create(model="tiny", prompt=text, max_tokens=1)).usage for _ in range(2)]
    tokens = first.usage.prompt_tokens  # type: ignore[union-attr]
    assert first.usage.prompt_tokens_details.cached_tokens == 0  # type: ignore[union-attr]
    assert again.usage.prompt_tokens_details.cached_tokens == tokens - 1
    assert streamed.prompt_tokens_details.cached_tokens == tokens - 1
    assert plain[1].prompt_tokens_details.cached_tokens == plain[1].prompt_tokens - 1  # type: ignore[union-attr]
    headers = {"Authorization": f"Bearer {tiny_server.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"{tiny_server.base_url}/organization/requests/{raw.headers['x-request-id']}"
        async with session.get(url) as response:
            row = orjson.loads(await response.read())
    assert row["charged_nanos"] == price_of(again.usage) < price_of(first.usage)


async def test_another_project_neither_sees_nor_pays_what_one_has_cached(tiny_server: Started) -> None:
    stranger = await other_project(tiny_server)
    messages = [{"role": "user", "content": "The plans of one project are its own. " * 5}]
    cached = []
    for key in (tiny_server.key, tiny_server.key, stranger, stranger):
        async with client(tiny_server, key) as ask:
            answer = await ask.chat.completions.create(model="tiny", messages=messages, max_tokens=1)  # type: ignore[arg-type]
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            cached.append(answer.usage.prompt_tokens_details.cached_tokens)
    tokens = answer.usage.prompt_tokens
    assert cached == [0, tokens - 1, 0, tokens - 1]


async def test_an_adapter_is_called_by_its_own_id_and_has_its_own_price_or_its_bases(tiny_server: Started) -> None:
    told = {}
    async with client(tiny_server) as ask:
        for name, times in (("tiny", 1), ("style", 1), ("dear", 10)):
            raw = await ask.chat.completions.with_raw_response.create(
                model=name, messages=[{"role": "user", "content": "Tell."}], temperature=0, max_tokens=8
            )
            answer = raw.parse()
            assert answer.model == name
            assert int(raw.headers["x-dayspring-price-nanos"]) == price_of(answer.usage, times)
            told[name] = answer.choices[0].message.content
        listed = {model.id async for model in ask.models.list()}
    assert len(set(told.values())) == 3
    assert listed >= {"tiny", "style", "dear"}
    assert len(tiny_server.server.worker_pids()) == 1


async def test_a_key_for_an_adapter_alone_does_not_open_its_base(tiny_server: Started) -> None:
    _, key = await tiny_server.server.key(allowed_models=frozenset({"style"}))
    async with client(tiny_server, key) as ask:
        answer = await ask.chat.completions.create(
            model="style", messages=[{"role": "user", "content": "Hi"}], max_tokens=1
        )
        assert answer.model == "style"
        with pytest.raises(openai.NotFoundError):
            await ask.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=1)


@pytest.mark.model
async def test_the_default_model_finds_a_prompt_again_among_others(model_server: Started) -> None:
    long = [{"role": "user", "content": "Summarise: " + "the sea was calm and the ship went on. " * 6}]
    other = [{"role": "user", "content": "Something else."}]
    used = []
    async with client(model_server) as ask:
        for messages in (long, other, long):
            answer = await ask.chat.completions.create(
                model=CHAT,
                messages=messages,
                max_tokens=1,  # type: ignore[arg-type]
            )
            used.append(answer.usage)
    assert used[2] is not None
    assert used[2].prompt_tokens_details is not None
    assert used[2].prompt_tokens_details.cached_tokens == used[2].prompt_tokens - 1
