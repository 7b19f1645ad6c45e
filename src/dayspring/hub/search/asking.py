"""What every hub's search needs: a bounded question, and formats told from names and tags."""

import json
from collections.abc import Iterable
from typing import Any

from dayspring.core.errors import DayspringError, NotFound, PermissionDenied, Unavailable
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["ask", "formats_of"]

_MAX_ANSWER_BYTES = 32 << 20
_SUFFIXES = {
    ".gguf": "gguf", ".safetensors": "safetensors", ".onnx": "onnx", ".tflite": "tflite", ".ckpt": "pickle",
    ".pt": "pickle", ".pth": "pickle", ".pkl": "pickle", ".bin": "pickle",
}  # fmt: skip
_TAGS = {"gguf": "gguf", "safetensors": "safetensors", "onnx": "onnx", "tflite": "tflite", "pickle": "pickle"}


async def ask(fetcher: Fetcher, url: str, secret: dict[str, str], hub: str) -> Any:
    """The answer's JSON. Raises Unavailable for what is none, and for a hub that has no such search."""
    error: DayspringError
    try:
        async with fetcher.open(Request(url, {"Accept": "application/json"}, secret, operator=True)) as answer:
            return json.loads(await answer.document(_MAX_ANSWER_BYTES))
    except (ValueError, RecursionError):
        error = Unavailable(f"{hub} answered the search with what is no JSON", "Check its endpoint in the settings.")
    except NotFound:
        error = Unavailable(f"{hub}'s endpoint has no search", "A mirror may lack it: use the models' addresses.")
    except PermissionDenied:
        error = Unavailable(f"{hub} does not let us search", "Check its token in the settings.")
    raise error from None


def formats_of(names: Iterable[str], tags: Iterable[str]) -> tuple[str, ...]:
    """From file names and tags. A pickle beside another format is not worth a word."""
    found = {_TAGS[tag.lower()] for tag in tags if tag.lower() in _TAGS}
    for name in names:
        lower = name.lower()
        found |= {kind for suffix, kind in _SUFFIXES.items() if lower.endswith(suffix)}
        # A repository without a list of files often says it in its name.
        found |= {"gguf"} if lower.endswith(("-gguf", "_gguf")) else set()
    return tuple(sorted(found - {"pickle"})) or tuple(found)
