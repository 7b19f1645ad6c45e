"""Structured logs: one JSON object a line for machines, one short line for people; every line with its request's id.

What holds: a line never contains a key. What is shaped like one of ours, a bearer token or an address's password is
masked on the way out, wherever it came from. Bodies are not logged.
"""

import logging
import re
import sys
import time
from typing import Any

import orjson

from dayspring.core.settings import Settings
from dayspring.web.context import request_id

__all__ = ["configure"]

# A key begins where no word goes on; in JSON, a line's end before it is written as a backslash and a letter.
_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))"
_SECRET = re.compile(
    rf"{_BEGIN}(ds[sri]?-[A-Za-z0-9_-]{{4}})[A-Za-z0-9_-]{{16,}}"
    r"|(?i:(bearer(?:\s|\\[bfnrt])+[^\s\"]{2}))[^\s\"]+"
    rf"|{_BEGIN}(sk-[^\s\"]{{2}})[^\s\"]{{8,}}"
    rf"|{_BEGIN}(hf_\w{{2}})\w{{8,}}"
    r"|(://[^\s/:@\"]*:)[^\s/@\"]+(?=@)"  # the password in an address
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def masked(text: str) -> str:
    """The text with every key cut to its first characters."""
    return _SECRET.sub(lambda match: next(filter(None, match.groups())) + "…", text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
    identifier = request_id()
    if identifier and "request_id" not in fields:
        fields["request_id"] = identifier
    return fields


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return masked(orjson.dumps(line, default=str).decode())


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = "  ".join(f"{name}={value}" for name, value in _fields(record).items())
        line = f"{stamp} {record.levelname.lower():<7} {record.getMessage()}  {fields}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return masked(line)


def configure(settings: Settings) -> None:
    """Send everything to standard error in the format the settings name."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("alembic").setLevel(logging.WARNING)
