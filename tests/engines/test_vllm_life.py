"""vLLM started, watched and ended: how it is asked to run, how it fails, and that nothing of it outlives its worker."""

import asyncio
import os
import signal
import stat
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import vllm_kit
from vllm_kit import Watched, asked, folder_model, running, seen

from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.events import TextDelta, Usage
from dayspring.contracts.models import Ability, Adapter, Modality
from dayspring.contracts.tasks import ChatTask, CompletionTask, Sampling
from dayspring.core.errors import (
    InvalidRequest,
    Refused,
    Unavailable,
    UnsupportedParameter,
    WorkerDied,
)
from dayspring.engines.vllm.engine import engine
from dayspring.engines.vllm.worker import check_folder
from dayspring.testing.contract import answers, collect


def chat(text: str = "one two three", **fields: object) -> ChatTask:
    return ChatTask(({"role": "user", "content": text},), **fields)  # type: ignore[arg-type]


async def test_it_is_started_closed_to_everyone_else_and_told_what_the_options_say(tmp_path: Path) -> None:
    model = folder_model(
        tmp_path / "model", reads=(Modality.IMAGE,), options={"max_model_len": 2048, "quantization": "fp8"}
    )
    async with running(tmp_path) as compute:
        assert answers(await collect(compute, model, chat()))[0] == "one two three"
        started = seen(model)
        arguments, environment = started["arguments"], started["environment"]
        socket = Path(arguments[arguments.index("--uds") + 1])
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert not socket.parent.exists()
    assert arguments[:2] == ["serve", model.path]
    told = dict(pairwise(arguments))
    assert (told["--max-model-len"], told["--quantization"], told["--max-num-seqs"]) == ("2048", "fp8", "4")
    assert 0.05 <= float(told["--gpu-memory-utilization"]) < 0.5
    assert told["--load-format"] == "safetensors"
    assert told["--mm-processor-cache-gb"] == "0"
    assert not {"--trust-remote-code", "--host", "--port", "--api-key"} & set(arguments)
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert len(environment["VLLM_API_KEY"]) >= 32
    assert environment["VLLM_API_KEY"] not in " ".join(arguments)
    assert not [name for name in environment if name.startswith("DAYSPRING_")]


async def test_it_is_asked_once_it_says_that_it_is_well(tmp_path: Path) -> None:
    well = tmp_path / "well"
    model = folder_model(tmp_path / "model", wishes={"health_file": str(well)})
    async with running(tmp_path) as compute:
        asking = asyncio.create_task(collect(compute, model, chat()))
        await asyncio.to_thread(vllm_kit.wait_until_started, model)
        assert not asking.done()
        assert not (tmp_path / "model" / "asked.json").exists()
        well.touch()
        assert answers(await asking)[0] == "one two three"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory", "too little memory"),
        ("vllm: error: unrecognized arguments: --uds", "version 0.12 or newer"),
        ("ValueError: TinyForCausalLM has no vLLM implementation", "does not know the model's architecture"),
        ("Please pass the argument `trust_remote_code=True`", "remote code is never run"),
        ("something /home/secret/path went wrong", "ended with status 1"),
    ],
)
async def test_a_start_that_fails_is_told_in_our_words_and_the_log_has_its_own(
    tmp_path: Path, words: str, told: str
) -> None:
    model = folder_model(tmp_path / "model", wishes={"crash": words})
    async with running(tmp_path) as compute:
        with pytest.raises(Unavailable, match=told) as caught:
            await collect(compute, model, chat())
    assert "secret" not in caught.value.message
    (log,) = (tmp_path / "home" / "logs").glob("*.log")
    assert f"Its last lines:\n{words}" in log.read_text()


async def test_a_start_that_takes_too_long_leaves_nothing_behind(tmp_path: Path) -> None:
    model = folder_model(tmp_path / "model", wishes={"health_file": str(tmp_path / "never"), "stubborn": True})
    async with running(tmp_path, worker_start_timeout_s=10) as compute:
        with pytest.raises(Unavailable, match="not ready after 10 s"):
            await collect(compute, model, chat())
        assert vllm_kit.gone(seen(model)["pid"])


async def test_its_death_takes_the_worker_and_all_it_started_and_the_next_call_starts_another(tmp_path: Path) -> None:
    model = folder_model(tmp_path / "model", wishes={"child": True})
    async with running(tmp_path) as compute:
        await collect(compute, model, chat())
        first = seen(model)
        child, worker = Watched(first["child"]), Watched(compute.status().workers[0].pid)
        os.kill(first["pid"], signal.SIGKILL)
        assert await asyncio.to_thread(child.ended)
        assert await asyncio.to_thread(worker.ended)
        while compute.status().workers:  # noqa: ASYNC110 - the loop hears of it a moment after the kernel says so
            await asyncio.sleep(0)
        assert answers(await collect(compute, model, chat()))[0] == "one two three"
        assert seen(model)["pid"] != first["pid"]


async def test_a_crash_in_mid_stream_is_the_workers_death_after_every_token_that_came(tmp_path: Path) -> None:
    # The first inference has fewer than twenty pieces.
    model = folder_model(tmp_path / "model", wishes={"group": 3, "die_at": 20})
    async with running(tmp_path) as compute:
        await collect(compute, model, chat())
        produced = 0
        async with compute.run(model, CompletionTask(("word " * 300,))) as run:
            with suppress(WorkerDied):
                async for event in run:
                    produced += event.tokens if isinstance(event, TextDelta) else 0
                pytest.fail("it should have died")
        assert produced == 20 * 3


@pytest.mark.parametrize("stubborn", [False, True])
async def test_nothing_outlives_a_worker_that_is_killed(tmp_path: Path, stubborn: bool) -> None:
    model = folder_model(tmp_path / "model", wishes={"stubborn": stubborn, "child": True})
    async with running(tmp_path) as compute:
        await collect(compute, model, chat())
        program, child = Watched(seen(model)["pid"]), Watched(seen(model)["child"])
        (worker,) = compute.status().workers
        os.kill(worker.pid, signal.SIGKILL)
        assert await asyncio.to_thread(program.ended)
        assert await asyncio.to_thread(child.ended)


@pytest.mark.parametrize("stubborn", [False, True])
async def test_nothing_outlives_a_worker_that_is_closed(tmp_path: Path, stubborn: bool) -> None:
    model = folder_model(tmp_path / "model", wishes={"stubborn": stubborn, "child": True})
    async with running(tmp_path) as compute:
        await collect(compute, model, chat())
        program, child = Watched(seen(model)["pid"]), Watched(seen(model)["child"])
        await compute.unload(model.id)
        assert await asyncio.to_thread(program.ended)
        assert await asyncio.to_thread(child.ended)


async def test_tokens_are_counted_with_every_piece_however_many_it_holds(tmp_path: Path) -> None:
    model = folder_model(tmp_path / "model", wishes={"group": 4})
    async with running(tmp_path) as compute:
        events = await collect(compute, model, chat("a b c d e f g h i j", n=2))
        deltas = [event.tokens for event in events if isinstance(event, TextDelta) and event.text]
        assert deltas == [4, 4, 2] * 2
        assert isinstance(events[-1], Usage)
        assert (events[-1].input_tokens, events[-1].output_tokens, events[-1].cached_tokens) == (10, 20, 5)
        assert not events[-1].upstream


async def test_what_it_is_asked_has_a_salt_of_the_project_and_no_secret_of_it(tmp_path: Path) -> None:
    model = folder_model(tmp_path / "model")
    salts = []
    async with running(tmp_path) as compute:
        for scope in ("project-a", "project-a", "project-b"):
            await collect(compute, model, chat(cache_scope=scope, sampling=Sampling(repeat_penalty=1.1)))
            salts.append(asked(model)["cache_salt"])
            assert asked(model)["repetition_penalty"] == 1.1
    assert salts[0] == salts[1] != salts[2]
    assert "project" not in "".join(salts)


async def test_a_schema_becomes_guided_json(tmp_path: Path) -> None:
    model = folder_model(tmp_path / "model")
    async with running(tmp_path) as compute:
        events = await collect(compute, model, chat(schema={"const": {"colour": "red"}}))
        assert answers(events)[0] == '{"colour":"red"}'
    assert asked(model)["response_format"]["json_schema"]["schema"] == {"const": {"colour": "red"}}


async def test_tools_need_to_be_told_how_the_model_writes_them(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
    plain = folder_model(tmp_path / "plain")
    told = folder_model(tmp_path / "told", "told", options={"tool_call_parser": "hermes"})
    async with running(tmp_path) as compute:
        with pytest.raises(UnsupportedParameter, match="tool_call_parser"):
            await collect(compute, plain, chat("call clock", tools=(tool,)))
        events = await collect(compute, told, chat("call clock", tools=(tool,)))
        assert [event.name for event in events if hasattr(event, "name") and event.name] == ["clock"]
    assert "--enable-auto-tool-choice" in seen(told)["arguments"]


async def test_adapters_are_modules_of_one_program_and_asked_by_name(tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    lora.mkdir()
    base = folder_model(tmp_path / "model", adapters=(Adapter("style=a b", str(lora), rank=12),))
    theirs = folder_model(tmp_path / "model", "style=a b", base="big", host=base)
    async with running(tmp_path) as compute:
        await collect(compute, base, chat())
        assert asked(base)["model"] == "model"
        await collect(compute, theirs, chat())
        name = asked(base)["model"]
        assert len(compute.status().workers) == 1
    arguments = seen(base)["arguments"]
    told = dict(pairwise(arguments))
    assert (told["--max-loras"], told["--max-lora-rank"]) == ("1", "16")
    assert told["--lora-modules"] == f"{name}={lora}"
    assert " " not in name


async def test_a_wrong_answer_is_a_fault_of_the_service_not_of_the_request(tmp_path: Path) -> None:
    model = folder_model(tmp_path / "model")
    async with running(tmp_path) as compute:
        await collect(compute, model, chat())
    (Path(model.path) / "stand_in.json").write_text('{"wrong": true}')
    async with running(tmp_path) as compute:
        with pytest.raises(Unavailable):
            await collect(compute, model, chat())


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        ("modeling.py", "", "program code"),
        ("pytorch_model.bin", "", "pickle"),
        ("config.json", '{"auto_map": {"AutoModel": "x"}}', "auto_map"),
        ("deep/tokenizer_config.json", '{"auto_map": {}}', "auto_map"),
    ],
)
def test_a_folder_that_could_run_something_is_refused(tmp_path: Path, file: str, content: str, rule: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(Refused, match=rule):
        check_folder(tmp_path)


async def test_where_it_is_not_installed_the_refusal_says_how(tmp_path: Path) -> None:
    model = folder_model(tmp_path / "model")
    async with running(tmp_path, vllm_executable="no-such-vllm") as compute:
        with pytest.raises(Unavailable, match="pip install vllm"):
            await collect(compute, model, chat())
    assert "DAYSPRING_VLLM_EXECUTABLE" in engine.missing(LoadOptions(executables={"vllm": "no-such-vllm"}))
    assert not engine.missing(LoadOptions(executables={"vllm": str(vllm_kit.program(tmp_path))}))


@pytest.mark.parametrize(
    "options",
    [{"max_model_len": 8}, {"gpu_memory_utilization": 1.5}, {"quantization": "rm -rf"}, {"trust_remote_code": True},
     {"tensor_parallel_size": 2}, {"visible_devices": "0,--x"}, {"tool_call_parser": "--evil"}, {"device": "tpu"}],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        engine.check_options(options)


def test_the_memory_is_that_of_weights_and_contexts_and_the_operators_word_comes_first() -> None:
    facts = {"block_count": 32, "head_count": 32, "head_count_kv": 8, "embedding_length": 4096}
    model = vllm_kit.Model(
        "m", "vllm", (Ability.CHAT,), "safetensors", size_bytes=14 << 30, context_tokens=8192, metadata=facts
    )
    options = LoadOptions(kv_contexts=4, memory_bytes=64 << 30)
    keys = 32 * 8 * 256 * 2 * 8192 * 4
    assert engine.memory_bytes(model, options) == (14 << 30) + keys + (3 << 30)
    fixed = vllm_kit.Model("m", "vllm", (Ability.CHAT,), "safetensors", options={"gpu_memory_utilization": 0.5})
    assert engine.memory_bytes(fixed, options) == 40 << 30
