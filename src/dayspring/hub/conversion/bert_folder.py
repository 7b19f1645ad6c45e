"""What a folder of a BERT sentence embedder holds: configuration, vocabulary, weights, and how vectors are pooled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from dayspring.core.errors import Refused

__all__ = ["BertFolder"]


class BertFolder:
    """Reads a folder whose headers the hub has checked. Raises Refused for what the conversion does not cover."""

    def __init__(self, folder: Path) -> None:
        config = _json(folder / "config.json")
        tokenizer = _json(folder / "tokenizer_config.json")
        try:
            self.layers = int(config["num_hidden_layers"])
            self.heads = int(config["num_attention_heads"])
            self.width = int(config["hidden_size"])
            self.inner = int(config["intermediate_size"])
            self.positions = int(config["max_position_embeddings"])
            self.epsilon = float(config.get("layer_norm_eps", 1e-12))
            self.vocabulary = (folder / "vocab.txt").read_text("utf-8").rstrip("\n").split("\n")
        except (KeyError, TypeError, ValueError, OSError):
            raise _refused("config.json or vocab.txt", "is not what a BERT model has") from None
        self.lower = bool(tokenizer.get("do_lower_case", True))
        self.pooling = _pooling(folder)
        self.weights = _weights(folder)
        self._check()

    def _check(self) -> None:
        known = ("embeddings.", "encoder.", "pooler.")
        strangers = [name for name in self.weights if not name.startswith(known)]
        words = self.weights.get("embeddings.word_embeddings.weight")
        if strangers or words is None or words.shape != (len(self.vocabulary), self.width):
            raise _refused("model.safetensors", f"has other tensors than a BERT model ({', '.join(strangers[:3])})")
        if not self.lower:
            raise _refused("tokenizer_config.json", "keeps capitals, which the converted tokenizer would not")


def _pooling(folder: Path) -> str:
    """`mean` or `cls`, as the folder's pooling module says; mean where it says nothing."""
    config = _json(folder / "1_Pooling" / "config.json")
    modes = {name for name, on in config.items() if name.startswith("pooling_mode_") and on is True}
    if modes <= {"pooling_mode_mean_tokens"}:
        return "mean"
    if modes == {"pooling_mode_cls_token"}:
        return "cls"
    raise _refused("1_Pooling/config.json", f"pools by {', '.join(sorted(modes))}, which is not converted")


def _weights(folder: Path) -> dict[str, NDArray[np.floating[Any]]]:
    """All tensors, without the prefix that some writers put before them and without the table of positions."""
    found: dict[str, NDArray[np.floating[Any]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for written, array in load_file(file).items():
            name = written.removeprefix("bert.")
            if name != "embeddings.position_ids":
                found[name] = array
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise _refused(file.name, "is no JSON object")
    return fields


def _refused(file: str, rule: str) -> Refused:
    return Refused(file=file, rule=f"it {rule}", remedy="Choose a GGUF file of the model.")
