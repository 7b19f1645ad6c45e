"""Formats are told from headers; a header that lies is refused in a sentence, whatever it says."""

import contextlib
import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_files import ctranslate2, gguf, onnx, safetensors, tflite, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dayspring.core.errors import Refused
from dayspring.hub.formats.cursor import NeedMore
from dayspring.hub.formats.detect import read_header
from dayspring.hub.formats.header import Header
from dayspring.hub.formats.safetensors import MAX_HEADER_BYTES


def header(data: bytes, name: str) -> Header:
    return read_header(io.BytesIO(data), len(data), name)


DIFFUSERS = json.dumps({"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]}).encode()

GOOD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "gguf": (gguf, "m.gguf", "gguf"),
    "gguf v2": (lambda: gguf(version=2), "m.gguf", "gguf"),
    "safetensors": (safetensors, "m.safetensors", "safetensors"),
    "onnx": (onnx, "m.onnx", "onnx"),
    "ctranslate2": (ctranslate2, "model.bin", "ctranslate2"),
    "tflite": (tflite, "m.tflite", "tflite"),
    "diffusers": (lambda: DIFFUSERS, "model_index.json", "diffusers"),
    "zip": (lambda: zipped({"a.txt": b"abc"}), "m.zip", "zip"),
    "text": (lambda: "é vocabulary\n".encode(), "vocab.txt", "text"),
    "json": (lambda: b'{"a": 1}', "config.json", "text"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_each_format_is_told_from_its_header(kind: str) -> None:
    make, name, expected = GOOD[kind]
    assert header(make(), name).format == expected


def test_the_facts_of_a_gguf_are_read() -> None:
    facts = header(gguf({"llama.attention.head_count_kv": [1, 2, 1]}), "m.gguf").facts
    assert facts["architecture"] == "llama"
    assert facts["context_length"] == 2048
    assert facts["head_count_kv"] == 2
    assert facts["vocabulary"] == 3
    assert facts["has_chat_template"] is True
    assert facts["parameters"] == 64
    assert facts["quantisation"] == "F32"


@pytest.mark.parametrize("kind", GOOD)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_header_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    make, name, _ = GOOD[kind]
    raw = bytearray(make())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(["set", "large", "cut", "insert"]))
        if how == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif how == "large":
            raw[at : at + 8] = struct.pack("<Q", data.draw(st.sampled_from([2**63, 2**40, 2**31, 2**64 - 1, 0])))
        elif how == "cut":
            del raw[at + 1 :]
        else:
            raw[at:at] = data.draw(st.binary(max_size=16))
    tracemalloc.start()
    try:
        header(bytes(raw), name)
    except (Refused, NeedMore):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16 << 20


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4096), st.sampled_from(["m.gguf", "m.safetensors", "m.onnx", "model.bin", "a.txt", "x"]))
def test_any_bytes_are_read_or_refused(raw: bytes, name: str) -> None:
    with contextlib.suppress(Refused, NeedMore):
        header(raw, name)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000))
def test_the_start_of_a_file_asks_for_more_or_says_the_same(length: int) -> None:
    whole = gguf({f"general.key{index}": "x" * 20 for index in range(30)})
    needed = 0
    try:
        seen = read_header(io.BytesIO(whole[:length]), len(whole), "m.gguf")
    except NeedMore as more:
        seen, needed = header(whole, "m.gguf"), more.bytes
    assert needed == 0 or length < needed <= len(whole)
    assert seen == header(whole, "m.gguf")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("run",))


def torch_zip() -> bytes:
    return zipped({"archive/data.pkl": pickle.dumps({"a": 1}), "archive/data/0": b"1234"}, zipfile.ZIP_STORED)


def bomb_header() -> bytes:
    return struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{" + b" " * 100


def pair(first: list[int], second: list[int]) -> bytes:
    shape = [[(offsets[1] - offsets[0]) // 4] for offsets in (first, second)]
    return safetensors(
        {
            "a": {"dtype": "F32", "shape": shape[0], "data_offsets": first},
            "b": {"dtype": "F32", "shape": shape[1], "data_offsets": second},
        },
    )


HOSTILE = {
    "a pickle, protocol 2": (lambda: pickle.dumps(Evil(), 2), "m.bin", "pickle"),
    "a pickle, protocol 5": (lambda: pickle.dumps(Evil(), 5), "model.safetensors", "pickle"),
    "a pickle, protocol 0": (lambda: pickle.dumps(Evil(), 0), "vocab.txt", "pickle"),
    "a pickle in a zip": (torch_zip, "m.pt", "pickle"),
    "a header bomb": (bomb_header, "m.safetensors", "header claims"),
    "a header past the end": (lambda: struct.pack("<Q", 10_000) + b"{}", "m.safetensors", "header claims"),
    "overlapping tensors": (lambda: pair([0, 16], [8, 24]), "m.safetensors", "overlap or leave a gap"),
    "a gap between tensors": (lambda: pair([0, 8], [16, 24]), "m.safetensors", "overlap or leave a gap"),
    "bytes after the tensors": (lambda: safetensors() + b"more", "m.safetensors", "bytes"),
    "a tensor with another size": (
        lambda: safetensors({"a": {"dtype": "F32", "shape": [7], "data_offsets": [0, 24]}}),
        "m.safetensors",
        "another size",
    ),
    "a name twice": (
        lambda: struct.pack("<Q", 70) + b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}'.ljust(70),
        "m.safetensors",
        "twice",
    ),
    "deep nesting": (lambda: struct.pack("<Q", 60_000) + b'{"a":' * 12_000, "m.safetensors", "no JSON"),
    "a GGUF cut short": (lambda: gguf(tail=1), "m.gguf", "past its end"),
    "a GGUF of version 9": (lambda: gguf(version=9), "m.gguf", "version 9"),
    "a GGUF with a huge list": (
        lambda: gguf().replace(struct.pack("<IIQ", 9, 8, 3), struct.pack("<IIQ", 9, 8, 2**40)),
        "m.gguf",
        "list",
    ),
    "weights outside the folder": (lambda: onnx("../../secret"), "m.onnx", "outside"),
    "weights at an absolute place": (lambda: onnx("/etc/passwd"), "m.onnx", "outside"),
    "remote code": (lambda: b'{"auto_map": {"AutoModel": "modeling.X"}}', "config.json", "auto_map"),
    "a pipeline with code": (
        lambda: b'{"_class_name": "P", "unet": ["my_module", "Unet"]}',
        "model_index.json",
        "code of its own",
    ),
    "a script": (lambda: b"print(1)", "run.py", "code"),
    "what nobody knows": (lambda: b"\x93NUMPY\x01\x00" + bytes(200), "m.npy", "none that is known"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_by_name_rule_and_remedy(kind: str) -> None:
    make, name, rule = HOSTILE[kind]
    with pytest.raises(Refused) as caught:
        header(make(), name)
    assert name in caught.value.message
    assert rule in caught.value.message
    assert caught.value.message.endswith(".")


@pytest.mark.model
def test_the_headers_of_the_default_models_are_read(default_models: Path) -> None:
    file = default_models / "SmolLM2-135M-Instruct.Q4_1.gguf"
    with file.open("rb") as stream:
        facts = read_header(stream, file.stat().st_size, file.name).facts
    assert (facts["context_length"], facts["vocabulary"], facts["quantisation"]) == (8192, 49152, "Q4_1")
