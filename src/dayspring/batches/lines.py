"""Reads the input of a batch: checks every line, and cuts the file into chunks that steps find again by their place.

What holds: a file that passes has 1 to MAX_LINES requests, each with an id of its own, the batch's endpoint and a body
that names a model; what is wrong is said with the line's number. Empty lines are no requests.
What it does not do: read a body's other fields; that is done when the line is answered, and fails the line alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from dayspring.batches.values import BatchFault, Chunk

__all__ = ["MAX_BYTES", "MAX_INPUTS", "MAX_LINES", "Checked", "Request", "check_input", "read_chunk"]

MAX_LINES = 50_000
MAX_BYTES = 200 * 10**6
MAX_INPUTS = 50_000
"""Texts to embed in one batch, over all its lines."""
_MAX_FAULTS = 100
_CHUNK_LINES = 256
_CHUNK_BYTES = 8 << 20
_ID_CHARACTERS = 512
_MODEL_CHARACTERS = 256


class Request(msgspec.Struct, frozen=True):
    """One line that is to be answered."""

    number: int
    custom_id: str
    body: dict[str, Any]


class Checked(msgspec.Struct, frozen=True):
    """What a look at every line found."""

    total: int
    models: dict[str, int]
    """Each model, and the number of the first line that names it."""
    chunks: tuple[Chunk, ...]
    faults: tuple[BatchFault, ...]


def check_input(path: Path, endpoint: str, *, line_bytes: int) -> Checked:
    """Reads the whole file. Blocks for seconds where it is large."""
    look = _Look(endpoint, line_bytes)
    with path.open("rb") as file:
        for line in file:
            look.take(line)
            if look.full:
                break
    return look.checked()


def read_chunk(path: Path, chunk: Chunk) -> list[Request]:
    """Its requests, in order. The file must have passed `check_input`."""
    with path.open("rb") as file:
        file.seek(chunk.offset)
        return list(_requests(file, chunk))


def _requests(file: Iterator[bytes], chunk: Chunk) -> Iterator[Request]:
    for number in range(chunk.first, chunk.first + chunk.lines):
        line = next(file)
        if line.strip():
            value = orjson.loads(line)
            yield Request(number, value["custom_id"], value["body"])


class _Look:
    """What is known after the lines so far."""

    def __init__(self, endpoint: str, line_bytes: int) -> None:
        self._endpoint = endpoint
        self._line_bytes = line_bytes
        self._faults: list[BatchFault] = []
        self._ids: set[str] = set()
        self._models: dict[str, int] = {}
        self._inputs = 0
        self._total = 0
        self._number = 0
        self._offset = 0
        self._chunks: list[Chunk] = []
        self._begun: tuple[int, int, int] | None = None
        """Offset, first line and requests of the chunk that is being cut."""

    @property
    def full(self) -> bool:
        return len(self._faults) >= _MAX_FAULTS

    def take(self, line: bytes) -> None:
        self._number += 1
        if self._begun is None:
            self._begun = (self._offset, self._number, 0)
        self._offset += len(line)
        if line.strip():
            self._total += 1
            offset, first, requests = self._begun
            self._begun = (offset, first, requests + 1)
            if self._total == MAX_LINES + 1:
                self._fault("too_many_tasks", f"A batch has at most {MAX_LINES} requests. Split the file.")
            self._check(line)
        offset, first, requests = self._begun
        if requests >= _CHUNK_LINES or self._offset - offset >= _CHUNK_BYTES:
            self._cut()

    def checked(self) -> Checked:
        self._cut()
        if not self._total:
            self._faults.append(BatchFault("empty_file", "The input file has no requests. Send one with some."))
        return Checked(self._total, self._models, tuple(self._chunks), tuple(self._faults[:_MAX_FAULTS]))

    def _cut(self) -> None:
        if self._begun is not None:
            offset, first, _ = self._begun
            self._chunks.append(Chunk(offset, first, self._number - first + 1))
            self._begun = None

    def _check(self, line: bytes) -> None:
        if len(line) > self._line_bytes:
            reason = f"The line is longer than {self._line_bytes} bytes. Shorten it, or raise DAYSPRING_MAX_BODY_BYTES."
            self._fault("invalid_request", reason)
            return
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._fault("invalid_json_line", "The line is not JSON. Correct it.")
            return
        if not isinstance(value, dict):
            self._fault("invalid_json_line", "The line is no JSON object. Correct it.")
            return
        self._check_envelope(value)
        body = value.get("body")
        if not isinstance(body, dict):
            self._fault("invalid_request", "The body is the JSON object that the endpoint reads. Send one.", "body")
            return
        self._check_body(body)

    def _check_envelope(self, value: dict[str, Any]) -> None:
        custom_id = value.get("custom_id")
        if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= _ID_CHARACTERS:
            reason = f"A custom_id is a text of 1 to {_ID_CHARACTERS} characters. Give the line one."
            self._fault("invalid_request", reason, "custom_id")
        elif custom_id in self._ids:
            self._fault("duplicate_custom_id", "An earlier line has this custom_id. Give each its own.", "custom_id")
        else:
            self._ids.add(custom_id)
        if value.get("method") != "POST":
            self._fault("invalid_method", "The method is POST. Correct it.", "method")
        if value.get("url") != self._endpoint:
            reason = f"The url is the batch's endpoint, {self._endpoint}. Correct it."
            self._fault("invalid_url", reason, "url")
        for name in sorted(value.keys() - {"custom_id", "method", "url", "body"}):
            self._fault("invalid_request", "A line has custom_id, method, url and body. Leave the others out.", name)
            break

    def _check_body(self, body: dict[str, Any]) -> None:
        model = body.get("model")
        if not isinstance(model, str) or not 1 <= len(model) <= _MODEL_CHARACTERS:
            self._fault("invalid_request", "The body names no model. Name one.", "body.model")
        else:
            self._models.setdefault(model, self._number)
        if self._endpoint == "/v1/embeddings":
            texts = body.get("input")
            many = isinstance(texts, list) and bool(texts) and not isinstance(texts[0], int)
            before, self._inputs = self._inputs, self._inputs + (len(texts) if many and isinstance(texts, list) else 1)
            if before <= MAX_INPUTS < self._inputs:
                self._fault("too_many_tasks", f"A batch embeds at most {MAX_INPUTS} texts. Split the file.")

    def _fault(self, code: str, message: str, param: str | None = None) -> None:
        name = None if param is None else param[:100]
        self._faults.append(BatchFault(code, message, name, self._number))
