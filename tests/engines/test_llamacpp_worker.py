"""What llama.cpp does with a real model beyond the contract: memory, seeds, schemas, damaged files, privacy."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from llamacpp_models import CHAT_FILE, chat_model, running

from dayspring.compute.service import Compute
from dayspring.contracts.events import ChoiceEnd, Event, Started, TextDelta, TokenLogprob, Usage
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, Sampling
from dayspring.core.errors import ContextLengthExceeded, Unavailable
from dayspring.testing.contract import answers, collect

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

MIB = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def compute(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Compute]:
    async with running(tmp_path_factory.mktemp("home"), kv_contexts=2, slots=4) as compute:
        yield compute


@pytest.fixture
def split(default_models: Path) -> Model:
    return chat_model(default_models, "split", n_ctx=2048)


@pytest.fixture
def shared(default_models: Path) -> Model:
    """One pool of two contexts of 256 tokens for four slots."""
    return chat_model(default_models, "shared", n_ctx=256, kv="shared")


def chat(text: str, **options: Any) -> ChatTask:
    task = {name: options.pop(name) for name in ("n", "schema") if name in options}
    return ChatTask(({"role": "user", "content": text},), Sampling(**options), **task)


def text_of(events: list[Event]) -> str:
    return answers(events).get(0, "")


async def test_one_request_may_use_the_whole_context_of_a_shared_pool_after_others_used_it(
    compute: Compute, shared: Model
) -> None:
    await asyncio.gather(*(collect(compute, shared, chat(f"warm {n} " * 20, max_tokens=20)) for n in range(6)))
    prompt = "go on " * 90
    count = await compute.count_tokens(shared, chat(prompt))
    assert count > 200
    events = await collect(compute, shared, chat(prompt, logit_bias={"2": -100.0}))
    usage = events[-1]
    assert isinstance(usage, Usage)
    assert usage.input_tokens + usage.output_tokens == 256
    assert [e.reason for e in events if isinstance(e, ChoiceEnd)] == ["length"]


async def test_no_stream_fails_when_more_is_asked_than_the_shared_pool_holds(compute: Compute, shared: Model) -> None:
    tasks = [chat(f"count {n} " * 20, max_tokens=150, logit_bias={"2": -100.0}) for n in range(6)]
    for events in await asyncio.gather(*(collect(compute, shared, task) for task in tasks)):
        usage = events[-1]
        assert isinstance(usage, Usage)
        assert usage.output_tokens == min(150, 256 - usage.input_tokens)


async def test_the_context_of_a_shared_pool_is_refused_with_numbers(compute: Compute, shared: Model) -> None:
    with pytest.raises(ContextLengthExceeded, match="at most 256"):
        await collect(compute, shared, chat("word " * 600))


async def test_the_same_seed_gives_the_same_text_beside_seven_others_and_after_a_restart(
    compute: Compute, split: Model
) -> None:
    task = chat("Write one sentence about the sea.", seed=11, temperature=1.0, max_tokens=30)
    first = text_of(await collect(compute, split, task))
    noise = [chat(f"story {n}", seed=n, temperature=1.0, max_tokens=40) for n in range(3)]
    for _ in range(2):
        mixed = await asyncio.gather(*(collect(compute, split, t) for t in (task, noise[0], task, *noise[1:], task)))
        assert [text_of(mixed[n]) for n in (0, 2, 5)] == [first] * 3
    other = text_of(await collect(compute, split, chat("Write one sentence about the sea.", seed=12, max_tokens=30)))
    assert other != first
    await compute.unload(split.id)
    assert text_of(await collect(compute, split, task)) == first


async def test_choice_i_of_n_is_the_answer_to_seed_plus_i(compute: Compute, split: Model) -> None:
    def asked(seed: int, n: int) -> ChatTask:
        return chat("Name a colour.", seed=seed, temperature=1.0, max_tokens=8, n=n)

    three = answers(await collect(compute, split, asked(5, 3)))
    alone = [text_of(await collect(compute, split, asked(5 + i, 1))) for i in range(3)]
    assert [three[i] for i in range(3)] == alone


async def test_a_cached_prompt_is_told_and_is_part_of_the_input(compute: Compute, split: Model) -> None:
    task = chat("A prompt of some length that comes twice. " * 5, max_tokens=1)
    first, second = [await collect(compute, split, task) for _ in range(2)]
    assert isinstance(first[-1], Usage)
    assert isinstance(second[-1], Usage)
    assert second[-1].input_tokens == first[-1].input_tokens
    assert second[-1].cached_tokens == second[-1].input_tokens - 1
    assert second[0] == Started(second[-1].input_tokens, second[-1].cached_tokens)


async def test_a_schema_holds_the_answer_to_it(compute: Compute, split: Model) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    events = await collect(compute, split, chat("Give me a colour.", schema=schema, max_tokens=100, seed=1))
    value = json.loads(text_of(events))
    assert value["colour"] in ("red", "blue")
    assert isinstance(value["count"], int)


async def test_logprobs_come_with_each_token_and_as_many_alternatives_as_asked(compute: Compute, split: Model) -> None:
    for most in (0, 3):
        events = await collect(compute, split, chat("Hello", top_logprobs=most, max_tokens=4, seed=1))
        found = [p for e in events if isinstance(e, TextDelta) and e.logprobs for p in e.logprobs]
        assert len(found) == 4
        for logprob in found:
            assert isinstance(logprob, TokenLogprob)
            assert logprob.logprob <= 0
            assert bytes(logprob.bytes or ()).decode() == logprob.token
            assert len(logprob.top) == most


async def test_a_completion_of_tokens_is_the_completion_of_their_text(compute: Compute, split: Model) -> None:
    texts = []
    for prompt in ("Once upon a time", (6403, 1980, 253, 655)):
        events = await collect(compute, split, CompletionTask((prompt,), Sampling(seed=3, max_tokens=6), echo=True))
        assert isinstance(events[-1], Usage)
        assert (events[-1].input_tokens, events[-1].output_tokens) == (4, 6)
        texts.append(text_of(events))
    assert texts[0].startswith("Once upon a time")
    assert texts[0] == texts[1]


async def test_a_bias_can_force_and_forbid_a_token(compute: Compute, split: Model) -> None:
    forced = await collect(compute, split, CompletionTask(("hi",), Sampling(logit_bias={"28": 100.0}, max_tokens=3)))
    assert len(set(text_of(forced))) == 1


@pytest.mark.parametrize("damage", ["cut", "garbage", "not a model"])
async def test_a_damaged_file_is_a_plain_refusal_and_leaves_others_running(
    compute: Compute, split: Model, default_models: Path, tmp_path: Path, damage: str
) -> None:
    whole = (default_models / CHAT_FILE).read_bytes()
    path = tmp_path / "damaged.gguf"
    middle = len(whole) // 2
    path.write_bytes(
        {"cut": whole[:middle], "garbage": whole[:100] + os.urandom(2000) + whole[2100:], "not a model": b"hello"}[
            damage
        ]
    )
    model = chat_model(default_models, "damaged")
    broken = Model(
        "damaged", "llamacpp", model.abilities, "gguf", str(path), size_bytes=MIB, metadata=model.metadata, options={}
    )
    with pytest.raises(Unavailable, match="'damaged' could not be started") as caught:
        await collect(compute, broken, chat("hi"))
    assert str(tmp_path) not in caught.value.message
    assert caught.value.retry_after_s
    assert await collect(compute, split, chat("hi", max_tokens=1))


async def test_the_librarys_own_server_is_out_of_reach_for_other_users(compute: Compute, split: Model) -> None:
    await compute.load(split)
    pid = next(worker.pid for worker in compute.status().workers if worker.model == split.id)
    sockets = _sockets(pid)
    assert _folder_modes(_unix_listeners(pid, sockets)) == {0o700}
    assert not sockets & _tcp_listeners(pid)


def _sockets(pid: int) -> set[str]:
    """Inodes of the sockets a process holds."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind, _, inode = str(link.readlink()).partition(":")
            if kind == "socket":
                found.add(inode.strip("[]"))
    return found


def _unix_listeners(pid: int, sockets: set[str]) -> list[Path]:
    rows = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()]
    return [Path(fields[7]) for fields in rows if len(fields) > 7 and fields[6] in sockets]


def _folder_modes(paths: list[Path]) -> set[int]:
    return {stat.S_IMODE(path.parent.stat().st_mode) for path in paths if path.name == "llama.sock"}


def _tcp_listeners(pid: int) -> set[str]:
    """Inodes of listening TCP sockets (state 0A) in the process's network namespace."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.add(fields[9])
    return found
