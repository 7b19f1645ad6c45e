"""What a file is for, and which content each purpose admits.

OpenAI's purposes. A program is refused whatever the purpose: nothing here runs one, and a renamed one has no good end.
"""

from collections.abc import Iterator
from pathlib import Path

import orjson

from dayspring.core.errors import InvalidRequest, Malformed, Refused
from dayspring.files.kinds import EMPTY, IMAGES, JSONL, PROGRAM, UNKNOWN

__all__ = ["PURPOSES", "RESULTS", "check_content", "check_purpose", "kept_s", "long_line", "split_lines"]

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
"""What a client may say."""
RESULTS = ("assistants_output", "batch_output", "fine-tune-results")
"""What the server's own work makes."""

_OF_LINES = {"batch", "evals", "fine-tune"}
_JSON = {JSONL, "application/json"}
"""One line of JSON is both."""
_REMEDY = "This purpose needs JSONL, one JSON object a line: correct it and send it again."
_DAY_S = 86_400
_BATCH_DAYS = 30
"""As OpenAI keeps a batch's files where nothing else is said."""
_CHUNK_BYTES = 1 << 20


def check_purpose(purpose: str) -> None:
    """Raises InvalidRequest for what is none of a client's."""
    if purpose not in PURPOSES:
        raise InvalidRequest(f"A file's purpose is one of {', '.join(PURPOSES)}. Send one of them.", param="purpose")


def kept_s(purpose: str, asked_s: int | None) -> int | None:
    """How long to keep the file; None: until it is deleted."""
    if asked_s is None and purpose in {"batch", "batch_output"}:
        return _BATCH_DAYS * _DAY_S
    return asked_s


def check_content(purpose: str, kind: str, name: str, file: Path, line_bytes: int) -> str:
    """Raises Refused or Malformed where this content is not for this purpose; else its media type.

    Reads the whole file where its purpose is one of lines: each must be a JSON object of at most `line_bytes`.
    """
    if kind == EMPTY:
        raise InvalidRequest("The file is empty. Send one with content.", param="file")
    if kind == PROGRAM:
        raise Refused(
            file=name, rule="its content is a program, whatever its name says", remedy="Programs are not stored here."
        )
    if purpose in _OF_LINES:
        if kind not in _JSON and not kind.startswith("text/"):
            raise _not_for(purpose, name, kind, "JSONL, one JSON object a line")
        _check_lines(file, line_bytes)
        return JSONL
    if purpose == "vision" and kind not in IMAGES:
        raise _not_for(purpose, name, kind, "an image: PNG, JPEG, WebP or GIF")
    if purpose == "assistants" and kind == UNKNOWN:
        raise _not_for(purpose, name, kind, "text, a document, an image or an archive")
    return kind


def _not_for(purpose: str, name: str, kind: str, wanted: str) -> Refused:
    return Refused(
        file=name,
        rule=f"its content is {kind}, and a file for {purpose} is {wanted}",
        remedy="Send such a file, or choose the purpose user_data.",
    )


def _check_lines(file: Path, line_bytes: int) -> None:
    for number, line in enumerate(split_lines(file, line_bytes), 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise Malformed(f"line {number} of the file is not JSON. {_REMEDY}") from None
        if not isinstance(value, dict):
            raise Malformed(f"line {number} of the file is no JSON object. {_REMEDY}")


def split_lines(file: Path, line_bytes: int) -> Iterator[bytes]:
    """The file's lines without their ends, empty ones too. Raises Malformed for one that is too long."""
    number = 1
    rest = b""
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if len(line) > line_bytes:
                    raise long_line(number, line_bytes)
                number += 1
                yield line.removesuffix(b"\r")
            if len(rest) > line_bytes:
                raise long_line(number, line_bytes)
    if rest:
        yield rest.removesuffix(b"\r")


def long_line(number: int, line_bytes: int) -> Malformed:
    return Malformed(
        f"line {number} of the file is longer than {line_bytes} bytes. Shorten it, or raise DAYSPRING_MAX_BODY_BYTES."
    )
