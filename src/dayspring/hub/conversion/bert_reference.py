"""BERT's forward pass in numpy, from the original weights: slow, obviously right, in 64-bit floats.

Shapes: n tokens, d width, h heads. One text at a time, so there is no padding and no mask.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "BertReference"]

Array = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


class BertReference:
    """`weights` by the names that BertModel gives them; `epsilon` of the layer norms."""

    def __init__(self, weights: Mapping[str, NDArray[np.floating]], *, heads: int, layers: int, epsilon: float) -> None:
        self._weights = {name: array.astype(np.float64) for name, array in weights.items() if array.dtype.kind == "f"}
        self._heads = heads
        self._layers = layers
        self._epsilon = epsilon

    def embed(self, ids: list[int], pooling: str) -> Array:
        """The text's vector, of unit length: (d,)."""
        hidden = self.hidden(ids)
        vector = hidden[0] if pooling == "cls" else hidden.mean(axis=0)
        unit: Array = vector / np.linalg.norm(vector)
        return unit

    def hidden(self, ids: list[int]) -> Array:
        """The last layer: (n, d)."""
        word = self._weights["embeddings.word_embeddings.weight"][ids]
        place = self._weights["embeddings.position_embeddings.weight"][: len(ids)]
        kind = self._weights["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(word + place + kind, "embeddings.LayerNorm")
        for layer in range(self._layers):
            x = self._layer(x, f"encoder.layer.{layer}")
        return x

    def _layer(self, x: Array, at: str) -> Array:
        attended = self._dense(self._attention(x, f"{at}.attention.self"), f"{at}.attention.output.dense")
        x = self._norm(x + attended, f"{at}.attention.output.LayerNorm")
        inner = self._dense(x, f"{at}.intermediate.dense")
        # GELU by its definition, with the error function.
        inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
        return self._norm(x + self._dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")

    def _attention(self, x: Array, at: str) -> Array:
        n, d = x.shape
        query, key, value = (
            self._dense(x, f"{at}.{name}").reshape(n, self._heads, d // self._heads).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(d // self._heads)  # (h, n, n)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        joined: Array = (scores @ value).transpose(1, 0, 2).reshape(n, d)
        return joined

    def _dense(self, x: Array, at: str) -> Array:
        result: Array = x @ self._weights[f"{at}.weight"].T + self._weights[f"{at}.bias"]
        return result

    def _norm(self, x: Array, at: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._epsilon)
        result: Array = scaled * self._weights[f"{at}.weight"] + self._weights[f"{at}.bias"]
        return result
