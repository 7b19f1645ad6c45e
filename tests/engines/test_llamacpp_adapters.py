"""Adapters of a tiny model in a real worker, against the same arithmetic in numpy."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from llamacpp_models import described, running

from dayspring.compute.service import Compute
from dayspring.contracts.events import Event, TextDelta, Usage
from dayspring.contracts.models import Ability, Adapter, Model
from dayspring.contracts.tasks import CompletionTask, Sampling
from dayspring.core.errors import Unavailable
from dayspring.testing.contract import answers, collect
from tiny_models import Reference, TinyLora, TinyText, write_lora, write_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "Count: one, two"
IDS = list(PROMPT.encode())
"""As the tiny tokeniser reads it: bytes, and ' t' is one word."""
IDS[IDS.index(ord(" ")) :] = [*list(b" one,"), 259, *list(b"wo")]
TEXT = TinyText()
FIRST, SECOND = TinyLora(TEXT, seed=5), TinyLora(TEXT, seed=6, rank=2, modules=("q_proj", "v_proj"))
NEAR = 0.02
"""Between numbers of 64 bits, and of 32 with a key-value memory of 16."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Compute]:
    async with running(tmp_path_factory.mktemp("home"), slots=4, threads=1) as compute:
        yield compute


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    write_text(made / "tiny.gguf", TEXT)
    write_lora(made / "first.gguf", FIRST)
    write_lora(made / "second.gguf", SECOND)
    return made


@pytest.fixture(scope="module")
def alone(folder: Path) -> Model:
    return described(folder / "tiny.gguf", "alone", (Ability.COMPLETION,))


@pytest.fixture(scope="module")
def family(folder: Path, alone: Model) -> dict[str, Model]:
    """A base, and two adapters of it, as the hub gives them."""
    adapters = tuple(Adapter(name, str(folder / f"{name}.gguf")) for name in ("first", "second"))
    base = msgspec.structs.replace(alone, id="base", adapters=adapters)
    theirs = {
        each.id: msgspec.structs.replace(alone, id=each.id, base="base", host=base, format="lora") for each in adapters
    }
    return {"base": base, **theirs}


_asked = itertools.count()


def ask(**sampling: object) -> CompletionTask:
    """Each in a scope of its own: a prefix found again is read in other batches, which rounds differently."""
    drawn = {"temperature": 0.0, "seed": 1, "max_tokens": 8, "top_logprobs": 5}
    return CompletionTask((PROMPT,), Sampling(**{**drawn, **sampling}), cache_scope=f"scope {next(_asked)}")  # type: ignore[arg-type]


def drawn(events: list[Event]) -> list[tuple[str, float]]:
    """Every token with its log-probability."""
    found = [each for event in events if isinstance(event, TextDelta) for each in event.logprobs or ()]
    return [(each.token, each.logprob) for each in found]


@pytest.mark.parametrize(("name", "lora"), [("base", None), ("first", FIRST), ("second", SECOND)])
async def test_the_next_word_has_the_probabilities_that_numpy_says(
    workers: Compute, family: dict[str, Model], name: str, lora: TinyLora | None
) -> None:
    right = Reference(TEXT, lora).next_logprobs(IDS)
    events = await collect(workers, family[name], ask(max_tokens=1))
    usage, (delta,) = events[-1], [e for e in events if isinstance(e, TextDelta) and e.logprobs]
    assert isinstance(usage, Usage)
    assert usage.input_tokens == len(IDS)
    likeliest = {TEXT.tokens[place]: right[place] for place in right.argsort()[::-1][:5]}
    assert delta.logprobs is not None
    told = {each.token: each.logprob for each in delta.logprobs[0].top}
    assert told.keys() == likeliest.keys()
    assert all(abs(told[token] - likeliest[token]) < NEAR for token in told)


async def test_adapters_change_the_answer_by_far_more_than_rounding() -> None:
    plain, first, second = (Reference(TEXT, lora).next_logprobs(IDS) for lora in (None, FIRST, SECOND))
    assert abs(plain - first).max() > 10 * NEAR
    assert abs(plain - second).max() > 10 * NEAR


async def test_without_an_adapter_the_base_answers_bit_for_bit_as_one_that_has_none(
    workers: Compute, family: dict[str, Model], alone: Model
) -> None:
    before = drawn(await collect(workers, alone, ask()))
    assert drawn(await collect(workers, family["base"], ask())) == before
    await collect(workers, family["first"], ask())
    assert drawn(await collect(workers, family["base"], ask())) == before


async def test_base_and_adapters_side_by_side_in_one_worker_each_answer_as_alone(
    workers: Compute, family: dict[str, Model]
) -> None:
    order = ["base", "first", "second", "first", "base", "second", "base", "first"]
    right = {name: drawn(await collect(workers, family[name], ask())) for name in family}
    assert len({str(told) for told in right.values()}) == 3
    mixed = await asyncio.gather(*(collect(workers, family[name], ask()) for name in order))
    for name, events in zip(order, mixed, strict=True):
        assert [token for token, _ in drawn(events)] == [token for token, _ in right[name]]
        # Neighbours in a batch change the last bits.
        assert [told for _, told in drawn(events)] == pytest.approx([told for _, told in right[name]], abs=1e-3)
    assert [worker.model for worker in workers.status().workers].count("base") == 1
    assert not {"first", "second"} & {worker.model for worker in workers.status().workers}


async def test_what_a_base_has_read_is_not_taken_for_what_its_adapter_would_have(
    workers: Compute, family: dict[str, Model]
) -> None:
    task = CompletionTask(("A prompt that comes again and again. " * 3,), Sampling(max_tokens=1, seed=1))
    cached = []
    for name in ("base", "base", "first", "first"):
        usage = (await collect(workers, family[name], task))[-1]
        assert isinstance(usage, Usage)
        cached.append(usage.cached_tokens)
    assert (cached[0], cached[2]) == (0, 0)
    assert cached[1] == cached[3] == usage.input_tokens - 1


async def test_an_adapter_whose_base_was_replaced_says_so(workers: Compute, family: dict[str, Model]) -> None:
    orphan = msgspec.structs.replace(family["first"], host=None)
    with pytest.raises(Unavailable, match="adapter of 'base', which is not here"):
        await collect(workers, orphan, ask())


async def test_a_base_is_loaded_again_when_an_adapter_comes(workers: Compute, family: dict[str, Model]) -> None:
    await collect(workers, family["base"], ask(max_tokens=1))
    fewer = msgspec.structs.replace(family["base"], adapters=family["base"].adapters[:1])
    theirs = msgspec.structs.replace(family["first"], host=fewer)
    assert answers(await collect(workers, theirs, ask())) == answers(await collect(workers, family["first"], ask()))
