"""Tiny models for llama.cpp, made here byte for byte the same each time: a text model, eyes for it, adapters of it.

The text model's weights are drawn once in the original's order; its GGUF file has them in llama.cpp's. `Reference` is
the same arithmetic in numpy, from the original's order. Words are bytes; only visible ASCII is ever answered.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.float32]

WIDTH, INNER, BLOCKS, HEADS, KEY_HEADS, CONTEXT = 64, 96, 2, 4, 2, 1024
HEAD = WIDTH // HEADS
EPSILON = 1e-5
SPECIALS = ("<|end|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{{ p['text'] if p['type'] == 'text' else '' }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PICTURE_TOKENS = 16
"""The eyes read 56 x 56 pixels in patches of 14."""


def alphabet() -> list[str]:
    """How byte-level tokenisers spell each of the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(others)) for byte in range(256)]


class TinyText:
    """Weights in the original's order and shapes (out, in)."""

    def __init__(self, seed: int = 1, width: int = WIDTH) -> None:
        random = np.random.default_rng(seed)
        self.width = width
        self.tokens = [*alphabet(), *SPECIALS, "\u0120t"]

        def draw(*shape: int, scale: float | None = None) -> Array:
            return (random.standard_normal(shape) * (scale or shape[-1] ** -0.5)).astype(np.float32)

        # The first dimension is the same for every word and no layer changes it, so that it can forbid some answers.
        self.embedding = draw(len(self.tokens), width, scale=1.0)
        self.embedding[:, 0] = 3
        self.output = draw(len(self.tokens), width, scale=0.4)
        self.output[:, 0] = [0 if 33 <= byte < 127 else -40 for byte in range(256)] + [-40] * (len(self.tokens) - 256)
        shapes = {
            "q_proj": (width, width), "k_proj": (KEY_HEADS * HEAD, width), "v_proj": (KEY_HEADS * HEAD, width),
            "o_proj": (width, HEADS * HEAD), "gate_proj": (INNER, width), "up_proj": (INNER, width),
            "down_proj": (width, INNER),
        }  # fmt: skip
        shapes["q_proj"] = (HEADS * HEAD, width)
        self.layers = [{name: draw(*shape) for name, shape in shapes.items()} for _ in range(BLOCKS)]
        for layer in self.layers:
            layer["o_proj"][0] = layer["down_proj"][0] = 0


NAMES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
    "up_proj": "ffn_up", "down_proj": "ffn_down",
}  # fmt: skip


def interleaved(rows: Array, heads: int) -> Array:
    """Halves of each head to neighbouring pairs, row by row, as llama.cpp's `llama` architecture has them."""
    made = np.empty_like(rows)
    for head in range(heads):
        for at in range(HEAD // 2):
            for half in (0, 1):
                made[head * HEAD + 2 * at + half] = rows[head * HEAD + half * (HEAD // 2) + at]
    return made


def write_text(path: Path, model: TinyText, **values: Any) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    writer.add_context_length(values.pop("context", CONTEXT))
    writer.add_embedding_length(model.width)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(BLOCKS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(HEAD)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(model.tokens)
    writer.add_token_types([1] * 256 + [3] * len(SPECIALS) + [1])
    writer.add_token_merges(["\u0120 t"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(258)
    writer.add_pad_token_id(256)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", model.embedding)
    writer.add_tensor("output.weight", model.output)
    writer.add_tensor("output_norm.weight", np.ones(model.width, np.float32))
    for number, layer in enumerate(model.layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{number}.{norm}.weight", np.ones(model.width, np.float32))
        for module, weight in layer.items():
            heads = {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(module)
            writer.add_tensor(f"blk.{number}.{NAMES[module]}.weight", interleaved(weight, heads) if heads else weight)
    return _written(writer, path)


def write_eyes(path: Path, seed: int = 2) -> Path:
    """A projector of LLaVA's kind, 16 tokens for each picture."""
    random = np.random.default_rng(seed)
    wide, inner, blocks, patch, size = 32, 48, 2, 14, 56
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("tiny eyes")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    numbers = {
        "image_size": size, "patch_size": patch, "embedding_length": wide, "feed_forward_length": inner,
        "projection_dim": WIDTH, "block_count": blocks, "attention.head_count": 2,
    }  # fmt: skip
    for name, value in numbers.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", EPSILON)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_bool("clip.use_gelu", True)

    def add(name: str, *shape: int, scale: float | None = None) -> None:
        weight = (random.standard_normal(shape) * (scale or shape[-1] ** -0.5)).astype(np.float32)
        writer.add_tensor(f"{name}.weight" if len(shape) > 1 else name, weight)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(wide, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(wide, np.float32))

    add("v.patch_embd", wide, 3, patch, patch, scale=0.1)
    add("v.class_embd", wide)
    add("v.position_embd", (size // patch) ** 2 + 1, wide, scale=0.1)
    norm("v.pre_ln")
    for block in range(blocks):
        at = f"v.blk.{block}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add(f"{at}.{name}", wide, wide)
            writer.add_tensor(f"{at}.{name}.bias", np.zeros(wide, np.float32))
        norm(f"{at}.ln1")
        norm(f"{at}.ln2")
        add(f"{at}.ffn_up", inner, wide)
        writer.add_tensor(f"{at}.ffn_up.bias", np.zeros(inner, np.float32))
        add(f"{at}.ffn_down", wide, inner)
        writer.add_tensor(f"{at}.ffn_down.bias", np.zeros(wide, np.float32))
    for name, (out, into, scale) in {"mm.0": (WIDTH, wide, None), "mm.2": (WIDTH, WIDTH, 0.5)}.items():
        add(name, out, into, scale=scale)
        writer.add_tensor(f"{name}.bias", np.zeros(WIDTH, np.float32))
    return _written(writer, path)


class TinyLora:
    """Pairs of A (rank, in) and B (out, rank) by layer and module, in the original's order."""

    def __init__(self, text: TinyText, seed: int = 5, rank: int = 4, modules: tuple[str, ...] = tuple(NAMES)) -> None:
        random = np.random.default_rng(seed)
        self.rank, self.alpha = rank, 2.0 * rank
        self.pairs: dict[tuple[int, str], tuple[Array, Array]] = {}
        for number, layer in enumerate(text.layers):
            for module in modules:
                out, into = layer[module].shape
                a = (random.standard_normal((rank, into)) * into**-0.5).astype(np.float32)
                b = (random.standard_normal((out, rank)) * 0.5).astype(np.float32)
                if module in ("o_proj", "down_proj"):
                    b[0] = 0
                self.pairs[number, module] = (a, b)


def write_lora(path: Path, lora: TinyLora, architecture: str = "llama", kind: str = "lora") -> Path:
    """As a GGUF file."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", lora.alpha)
    writer.add_license("apache-2.0")
    for (layer, module), (a, b) in lora.pairs.items():
        heads = {"q_proj": HEADS, "k_proj": KEY_HEADS}.get(module)
        name = f"blk.{layer}.{NAMES[module]}.weight"
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", interleaved(b, heads) if heads else b)
    return _written(writer, path)


def write_peft(folder: Path, lora: TinyLora, **settings: Any) -> Path:
    """As PEFT saves it."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": lora.rank, "lora_alpha": lora.alpha, "bias": "none", "use_dora": False}
    config |= {"base_model_name_or_path": "tiny/tiny", "task_type": "CAUSAL_LM", "modules_to_save": None}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    tensors = {}
    for (layer, module), (a, b) in lora.pairs.items():
        part = "self_attn" if NAMES[module].startswith("attn") else "mlp"
        at = f"base_model.model.model.layers.{layer}.{part}.{module}"
        tensors |= {f"{at}.lora_A.weight": a, f"{at}.lora_B.weight": b}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Reference:
    """The text model's arithmetic in 64-bit floats, with an adapter's change added to its weights."""

    def __init__(self, text: TinyText, lora: TinyLora | None = None) -> None:
        self._text = text
        self._layers = [{name: weight.astype(np.float64) for name, weight in layer.items()} for layer in text.layers]
        for (layer, module), (a, b) in (lora.pairs if lora else {}).items():
            assert lora is not None
            self._layers[layer][module] += lora.alpha / lora.rank * (b.astype(np.float64) @ a.astype(np.float64))

    def next_logprobs(self, ids: list[int]) -> NDArray[np.float64]:
        """Of every word, after these."""
        x = self._text.embedding[ids].astype(np.float64)
        for layer in self._layers:
            x = x + self._attention(_norm(x), layer)
            y = _norm(x)
            gate = y @ layer["gate_proj"].T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ layer["up_proj"].T)) @ layer["down_proj"].T
        logits = _norm(x[-1:])[0] @ self._text.output.astype(np.float64).T
        found: NDArray[np.float64] = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        return found

    def _attention(self, x: NDArray[np.float64], layer: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        count = len(x)
        query = _turned((x @ layer["q_proj"].T).reshape(count, HEADS, HEAD))
        key = _turned((x @ layer["k_proj"].T).reshape(count, KEY_HEADS, HEAD)).repeat(HEADS // KEY_HEADS, axis=1)
        value = (x @ layer["v_proj"].T).reshape(count, KEY_HEADS, HEAD).repeat(HEADS // KEY_HEADS, axis=1)
        scores = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(HEAD)
        scores = np.where(np.tril(np.ones((count, count), bool)), scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        joined: NDArray[np.float64] = np.einsum("hqk,khd->qhd", scores, value).reshape(count, -1) @ layer["o_proj"].T
        return joined


def _norm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    normed: NDArray[np.float64] = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPSILON)
    return normed


def _turned(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotary positions, the original's way: the first half of a head with the second."""
    half = HEAD // 2
    angle = np.outer(np.arange(len(x)), 10_000.0 ** (-np.arange(half) / half))[:, None, :]
    first, second = x[..., :half], x[..., half:]
    turned: NDArray[np.float64] = np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], axis=-1
    )
    return turned


def png(colour: tuple[int, int, int], width: int = 40, height: int = 40) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\0" + bytes(colour) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_reranker(path: Path, seed: int = 7, context: int = 96) -> Path:
    """A cross-encoder of BERT's kind: one layer, a head that gives one score."""
    random = np.random.default_rng(seed)
    wide, inner = 32, 64
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("\u2581" + letter for letter in letters)]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny reranker")
    writer.add_license("apache-2.0")
    writer.add_context_length(context)
    writer.add_embedding_length(wide)
    writer.add_feed_forward_length(inner)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_types([3] * 5 + [1] * (len(pieces) - 5))
    writer.add_token_type_count(2)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(3)
    writer.add_unk_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(4)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.3).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(wide, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(wide, np.float32))

    def layer(name: str, out: int, into: int) -> None:
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out)

    add("token_embd.weight", len(pieces), wide)
    add("position_embd.weight", context, wide)
    add("token_types.weight", 2, wide)
    norm("token_embd_norm")
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        layer(f"blk.0.{name}", wide, wide)
    norm("blk.0.attn_output_norm")
    norm("blk.0.layer_output_norm")
    layer("blk.0.ffn_up", inner, wide)
    layer("blk.0.ffn_down", wide, inner)
    layer("cls", wide, wide)
    layer("cls.output", 1, wide)
    return _written(writer, path)
