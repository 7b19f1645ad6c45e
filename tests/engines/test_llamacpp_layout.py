"""The layout of a model in memory, from its header."""

import msgspec
import pytest

from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import InvalidRequest
from dayspring.engines.llamacpp.engine import engine
from dayspring.engines.llamacpp.layout import cell_bytes, layout

SMALL = Model(
    "small",
    "llamacpp",
    (Ability.CHAT,),
    size_bytes=100 << 20,
    context_tokens=8192,
    metadata={
        "block_count": 30,
        "embedding_length": 576,
        "head_count": 9,
        "head_count_kv": 3,
        "vocabulary": 49152,
        "parameters": 134_515_008,
    },
)
GIB = 1 << 30


def options(memory_bytes: int, *, slots: int = 8, kv_contexts: int = 4, threads: int = 2) -> LoadOptions:
    return LoadOptions(threads, slots, kv_contexts, memory_bytes)


def with_options(**chosen: object) -> Model:
    return msgspec.structs.replace(SMALL, options=chosen)


def test_a_cell_is_keys_and_values_of_every_block_in_two_bytes_each() -> None:
    assert cell_bytes(SMALL.metadata, "f16") == 30 * 3 * (64 + 64) * 2
    assert cell_bytes(SMALL.metadata, "q8_0") < 30 * 3 * (64 + 64) * 1.1


def test_every_slot_has_its_own_context_while_that_is_a_small_part_of_the_memory() -> None:
    plan = layout(SMALL, options(16 * GIB))
    assert plan.split
    assert plan.pool_tokens == 8 * 8192
    assert plan.memory_bytes > 100 << 20


def test_with_less_memory_the_slots_share_a_pool_in_which_one_may_use_the_whole_context() -> None:
    plan = layout(SMALL, options(4 * GIB))
    assert not plan.split
    assert plan.pool_tokens == 4 * 8192
    assert plan.context_tokens == 8192


def test_with_little_memory_the_context_is_cut_to_what_fits_and_the_estimate_stays_within() -> None:
    plan = layout(SMALL, options(400 << 20))
    assert 512 <= plan.context_tokens < 8192
    assert plan.memory_bytes <= 400 << 20


def test_an_operator_who_grants_a_context_to_every_slot_gets_split_memory() -> None:
    assert layout(SMALL, options(4 * GIB, kv_contexts=8)).split
    assert layout(with_options(kv="split"), options(4 * GIB)).split
    assert not layout(with_options(kv="shared"), options(64 * GIB)).split


def test_the_context_option_only_shortens() -> None:
    assert layout(with_options(n_ctx=2048), options(0)).context_tokens == 2048
    assert layout(with_options(n_ctx=1 << 20), options(0)).context_tokens == 8192


@pytest.mark.parametrize(
    ("threads", "parameters", "batch"), [(2, 134_515_008, 32), (16, 134_515_008, 256), (2, 7_000_000_000, 16)]
)
def test_the_batch_is_about_a_seventh_of_a_second_of_work_and_holds_every_stream(
    threads: int, parameters: int, batch: int
) -> None:
    model = msgspec.structs.replace(SMALL, metadata={**SMALL.metadata, "parameters": parameters})
    assert layout(model, options(0, threads=threads)).batch_tokens == batch
    assert layout(model, options(0, threads=threads), "cuda").batch_tokens == 512


@pytest.mark.parametrize(
    "wrong", [{"n_ctx": 10}, {"n_ctx": "big"}, {"kv": "other"}, {"chat_template": 1}, {"n_batch": True}, {"what": 1}]
)
def test_a_wrong_option_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        engine.check_options(wrong)


def test_right_options_pass() -> None:
    engine.check_options({"n_ctx": 4096, "n_batch": 64, "kv": "shared", "cache_type": "q8_0", "chat_template": "x"})
