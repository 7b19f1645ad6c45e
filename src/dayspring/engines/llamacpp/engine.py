"""llama.cpp's cheap half: what it runs, with which options, and what a model will need.

What it does not do: import the library. That is `worker.py`, in its own process.
"""

from typing import Any

from dayspring.contracts.engine import LoadOptions, engine_defaults
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import InvalidRequest
from dayspring.engines.llamacpp.layout import layout

__all__ = ["LlamaCpp", "engine"]

_CHOICES = {"kv": ("split", "shared"), "cache_type": ("f16", "q8_0", "q4_0")}
_NUMBERS = {"n_ctx": 256, "n_batch": 8}
"""Whole numbers, and the least of each."""
_TEXTS = ("chat_template", "document_prefix", "query_prefix")


class LlamaCpp(engine_defaults):
    """Options of a model: `n_ctx` (tokens of context, at most what the header allows), `n_batch`, `kv` (see
    `layout`), `cache_type` (of the key-value memory), `chat_template` (Jinja, instead of the header's), and for
    embeddings `query_prefix` and `document_prefix`, put before inputs of that purpose."""

    name = "llamacpp"
    abilities = frozenset({Ability.CHAT, Ability.COMPLETION, Ability.EMBEDDING, Ability.RERANK})
    formats = frozenset({"gguf"})
    devices = frozenset({"cpu", "cuda"})
    options = frozenset({*_CHOICES, *_NUMBERS, *_TEXTS})
    session = "dayspring.engines.llamacpp.worker:open_session"

    def memory_bytes(self, model: Model, options: LoadOptions) -> int:
        return layout(model, options).memory_bytes

    def check_options(self, options: dict[str, Any]) -> None:
        super().check_options(options)
        for name, value in options.items():
            if name in _CHOICES and value not in _CHOICES[name]:
                raise InvalidRequest(f"{name!r} is one of {', '.join(_CHOICES[name])}. Correct it.", param=name)
            if name in _NUMBERS and (type(value) is not int or value < _NUMBERS[name]):
                raise InvalidRequest(f"{name!r} is a whole number from {_NUMBERS[name]}. Correct it.", param=name)
            if name in _TEXTS and not isinstance(value, str):
                raise InvalidRequest(f"{name!r} is a text. Correct it.", param=name)


engine = LlamaCpp()
