"""BERT's safetensors to GGUF, for llama.cpp: names, vocabulary and pooling as its `bert` architecture reads them.

Matrices become 16-bit floats; vectors and the tables that are added stay 32-bit. The vocabulary turns from marking
pieces inside a word (`##`) to marking those that start one (U+2581), which is how that program tells them apart.
"""

from pathlib import Path

import gguf
import numpy as np

from dayspring.core.errors import Refused
from dayspring.hub.conversion.bert_folder import BertFolder

__all__ = ["write_bert"]

_OUTER = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
}
_INNER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_FULL_WIDTH = ("position_embd.weight", "token_types.weight")
_POOLING = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS}


def write_bert(source: BertFolder, output: Path, name: str) -> None:
    """Write the whole file. Raises Refused for a tensor that has no place in it."""
    writer = gguf.GGUFWriter(output, "bert")
    writer.add_name(name)
    writer.add_context_length(source.positions)
    writer.add_embedding_length(source.width)
    writer.add_feed_forward_length(source.inner)
    writer.add_block_count(source.layers)
    writer.add_head_count(source.heads)
    writer.add_layer_norm_eps(source.epsilon)
    writer.add_causal_attention(False)
    writer.add_pooling_type(_POOLING[source.pooling])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_vocabulary(writer, source.vocabulary)
    for original, array in source.weights.items():
        # The pooler is a layer for another task; sentence vectors are pooled from the last hidden layer.
        if original.startswith("pooler."):
            continue
        target = _renamed(original)
        wide = array.ndim < 2 or target in _FULL_WIDTH
        writer.add_tensor(target, np.ascontiguousarray(array, dtype=np.float32 if wide else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: list[str]) -> None:
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_respelled(piece).encode() for piece in vocabulary])
    writer.add_token_types([_type(piece) for piece in vocabulary])
    writer.add_token_type_count(2)
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_eos_token_id(ids["[SEP]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_mask_token_id(ids["[MASK]"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)


def _respelled(piece: str) -> str:
    """`##ing` to `ing`, `the` to `\u2581the`; special pieces as they are."""
    if _is_special(piece):
        return piece
    return piece[2:] if piece.startswith("##") else "\u2581" + piece


def _is_special(piece: str) -> bool:
    return piece.startswith("[") and piece.endswith("]") and len(piece) > 2


def _type(piece: str) -> gguf.TokenType:
    if piece == "[UNK]":
        return gguf.TokenType.UNKNOWN
    return gguf.TokenType.CONTROL if _is_special(piece) else gguf.TokenType.NORMAL


def _renamed(name: str) -> str:
    if name in _OUTER:
        return _OUTER[name]
    stem, _, kind = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{kind}"
    prefix, _, rest = stem.removeprefix("encoder.layer.").partition(".")
    if stem.startswith("encoder.layer.") and prefix.isdigit() and rest in _INNER:
        return f"blk.{prefix}.{_INNER[rest]}.{kind}"
    raise Refused(file=name, rule="no tensor of this name is known", remedy="Choose a GGUF file of the model.")
