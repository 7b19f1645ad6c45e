"""Models of two files that see, and adapters: found, checked against their base, converted, tied to it, and run."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hub_kit import MakeHub
from safetensors.numpy import save_file

from dayspring.compute.service import Compute
from dayspring.contracts.events import TextDelta
from dayspring.contracts.models import Ability, Modality, Model
from dayspring.contracts.tasks import CompletionTask, Sampling
from dayspring.core.errors import Conflict, DayspringError, InvalidRequest, Refused
from dayspring.core.settings import Settings
from dayspring.hub.adapters.entries import as_stored
from dayspring.hub.service import Hub
from dayspring.testing.contract import collect
from tiny_models import (
    Reference,
    TinyLora,
    TinyText,
    write_eyes,
    write_lora,
    write_peft,
    write_text,
)

TEXT = TinyText()
LORA = TinyLora(TEXT)


@pytest.fixture
async def hub(make_hub: MakeHub, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub with the tiny model in it, as `tiny`."""
    made = make_hub()
    file = write_text(tmp_path / "tiny.gguf", TEXT)
    await made.add(await made.plan(f"file:{file}", "tiny"))
    return made


async def test_a_projector_beside_the_model_is_added_with_it_and_gives_it_eyes(
    make_hub: MakeHub, tmp_path: Path
) -> None:
    folder = tmp_path / "seeing"
    folder.mkdir()
    write_text(folder / "tiny-Q8.gguf", TEXT)
    write_eyes(folder / "mmproj-tiny-f16.gguf")
    write_eyes(folder / "mmproj-tiny-f32.gguf")
    hub = make_hub()
    plan = await hub.plan(f"file:{folder}")
    assert [file.path for file in plan.files] == ["tiny-Q8.gguf", "mmproj-tiny-f16.gguf"]
    assert any("reads pictures" in warning for warning in plan.warnings)
    model = await hub.add(plan)
    assert model.reads == (Modality.IMAGE,)
    assert model.picture_tokens == 16 + 8
    assert Path(model.path).name == "tiny-Q8.gguf"
    assert Path(model.path).with_name(model.metadata["projector_file"]).exists()
    assert model.size_bytes == sum(file.stat().st_size for file in folder.glob("*[!2].gguf") if "f32" not in file.name)


async def test_a_projector_alone_is_no_model(make_hub: MakeHub, tmp_path: Path) -> None:
    eyes = write_eyes(tmp_path / "mmproj-tiny.gguf")
    plan = await make_hub().plan(f"file:{eyes}")
    assert any("projector" in refusal for refusal in plan.refusals)


async def test_a_model_without_one_reads_text_only(hub: Hub) -> None:
    model = await hub.get("tiny")
    assert (model.reads, model.picture_tokens) == ((), 0)


async def test_an_adapter_is_a_model_of_its_own_that_its_base_is_loaded_with(hub: Hub, tmp_path: Path) -> None:
    file = write_lora(tmp_path / "style.gguf", LORA)
    plan = await hub.plan(f"file:{file}", "tiny-style", base="tiny")
    assert (plan.refusals, plan.base, plan.abilities) == ((), "tiny", (Ability.CHAT, Ability.COMPLETION))
    adapter = await hub.add(plan)
    base = await hub.get("tiny")
    assert (adapter.format, adapter.context_tokens) == ("lora", base.context_tokens)
    assert [each.id for each in base.adapters] == ["tiny-style"]
    assert base.adapters[0].rank == LORA.rank
    assert adapter.host is base
    assert as_stored(adapter).host is None
    assert {model.id: model.host for model in await hub.list()} == {"tiny": None, "tiny-style": None}


async def test_a_base_goes_only_after_its_adapters_and_another_under_its_name_is_no_base(
    hub: Hub, tmp_path: Path
) -> None:
    file = write_lora(tmp_path / "style.gguf", LORA)
    await hub.add(await hub.plan(f"file:{file}", "style", base="tiny"))
    with pytest.raises(Conflict, match="base of style"):
        await hub.remove("tiny")
    models = [model for model in await hub.list() if model.id == "style"]
    assert models[0].base_sha256 == (await hub.get("tiny")).sha256
    await hub.remove("style")
    await hub.remove("tiny")


async def test_an_adapter_without_a_base_says_which_one_it_wants(hub: Hub, tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "peft", LORA)
    with pytest.raises(InvalidRequest, match=r"'tiny/tiny'.*--base"):
        await hub.plan(f"file:{folder}")
    with pytest.raises(InvalidRequest, match="Leave out --base"):
        await hub.plan(f"file:{tmp_path / 'tiny.gguf'}", "again", base="tiny")


@pytest.mark.parametrize("case", ["architecture", "shape", "kind", "layer"])
async def test_an_adapter_for_another_model_is_refused_with_a_sentence(hub: Hub, tmp_path: Path, case: str) -> None:
    wider = TinyLora(TinyText(width=80), modules=("gate_proj",))
    far = TinyLora(TEXT, modules=("gate_proj",))
    far.pairs = {(9, module): pair for (_, module), pair in far.pairs.items()}
    path = tmp_path / "other.gguf"
    match case:
        case "architecture":
            write_lora(path, LORA, "qwen2")
        case "shape":
            write_lora(path, wider)
        case "kind":
            write_lora(path, LORA, kind="alora")
        case "layer":
            write_lora(path, far)
    plan = await hub.plan(f"file:{path}", "other", base="tiny")
    told = {"architecture": "architecture 'qwen2'", "shape": "another shape", "kind": "not LoRA", "layer": "'blk.9."}
    assert told[case] in plan.refusals[0]
    with pytest.raises(Refused):
        await hub.add(plan)


async def test_a_peft_folder_is_converted_and_then_changes_the_model_as_numpy_says(hub: Hub, tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "peft", LORA)
    plan = await hub.plan(f"file:{folder}", "style", base="tiny")
    assert plan.conversion.startswith("PEFT LoRA to GGUF")
    assert plan.refusals == ()
    adapter = await hub.add(plan)
    assert adapter.path.endswith(".gguf")
    assert adapter.metadata["conversion"]["worst_cosine"] > 0.999_999
    assert adapter.licence == "Apache-2.0"
    ids = list(b"hello")
    right = Reference(TEXT, LORA).next_logprobs(ids)
    told = await _likeliest(adapter, tmp_path)
    assert told == pytest.approx({TEXT.tokens[place]: right[place] for place in right.argsort()[::-1][:5]}, abs=0.02)


async def _likeliest(adapter: Model, home: Path) -> dict[str, float]:
    """The five likeliest words after `hello`, in a real worker."""
    host = msgspec.structs.replace(adapter.host or adapter, engine="llamacpp")
    run = msgspec.structs.replace(adapter, engine="llamacpp", host=host)
    compute = Compute(Settings(home=home / "workers", memory_bytes=8 << 30, threads=1, slots=2))
    try:
        events = await collect(compute, run, CompletionTask(("hello",), Sampling(max_tokens=1, top_logprobs=5)))
    finally:
        await compute.close()
    (drawn,) = [event.logprobs[0] for event in events if isinstance(event, TextDelta) and event.logprobs]
    return {each.token: each.logprob for each in drawn.top}


async def test_bfloat16_and_rank_stabilised_scales_are_understood(hub: Hub, tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "peft", LORA, use_rslora=True)
    plan = await hub.plan(f"file:{folder}", "style", base="tiny")
    assert plan.metadata["alpha"] == pytest.approx(LORA.alpha * LORA.rank**0.5)
    _as_bfloat16(folder / "adapter_model.safetensors")
    adapter = await hub.add(await hub.plan(f"file:{folder}", "style", base="tiny"))
    assert adapter.metadata["alpha"] == pytest.approx(LORA.alpha * LORA.rank**0.5)


def _as_bfloat16(path: Path) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body, at = b"", 0
    for entry in header.values():
        begin, end = entry["data_offsets"]
        upper = (np.frombuffer(data[8 + length + begin : 8 + length + end], "<u4") >> 16).astype("<u2").tobytes()
        body += upper
        entry |= {"dtype": "BF16", "data_offsets": [at, at + len(upper)]}
        at += len(upper)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 0}, "no rank"),
        ({"r": 10**9}, "no rank"),
        ({"lora_alpha": "x"}, "no scale"),
        ({"rank_pattern": {"a": 1}}, "rank_pattern"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
    ],
)
async def test_what_is_no_plain_lora_is_refused_by_name(
    hub: Hub, tmp_path: Path, settings: dict[str, object], told: str
) -> None:
    folder = write_peft(tmp_path / "peft", LORA, **settings)
    plan = await hub.plan(f"file:{folder}", "style", base="tiny")
    assert any(told in refusal for refusal in plan.refusals)


@pytest.mark.parametrize("damage", ["half", "module", "rank", "nan"])
async def test_a_peft_folder_that_contradicts_itself_is_refused_at_its_conversion(
    hub: Hub, tmp_path: Path, damage: str
) -> None:
    folder = write_peft(tmp_path / "peft", LORA)
    at = "base_model.model.model.layers.0.self_attn.q_proj"
    a, b = LORA.pairs[0, "q_proj"]
    tensors = {
        "half": {f"{at}.lora_A.weight": a},
        "module": {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b, "base_model.model.lm_head.lora_A.weight": a},
        "rank": {f"{at}.lora_A.weight": a[:2], f"{at}.lora_B.weight": b},
        "nan": {f"{at}.lora_A.weight": a * np.nan, f"{at}.lora_B.weight": b},
    }[damage]
    save_file({name: np.ascontiguousarray(array, np.float32) for name, array in tensors.items()},
              folder / "adapter_model.safetensors")  # fmt: skip
    plan = await hub.plan(f"file:{folder}", "style", base="tiny")
    with pytest.raises(DayspringError) as caught:
        await hub.add(plan)
    assert caught.value.status == 400
    assert [model.id for model in await hub.list()] == ["tiny"]
