"""Questions to the library's own server that it has no call for: how many tokens a prompt is.

The server listens on a Unix socket in a folder only this user can enter, and asks for a key made for this process.
"""

import http.client
import socket
from typing import Any

import msgspec

__all__ = ["LocalServer", "tokenize_body"]

_LIMIT_S = 60


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_LIMIT_S)
        self.sock.connect(self._path)


class LocalServer:
    def __init__(self, path: str, key: str) -> None:
        self._path = path
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer, an error too: then it has `error`. Blocks; raises OSError or HTTPException."""
        connection = _UnixConnection(self._path)
        try:
            connection.request("POST", route, msgspec.json.encode(body), self._headers)
            answer: dict[str, Any] = msgspec.json.decode(connection.getresponse().read())
            return answer
        finally:
            connection.close()


def tokenize_body(text: str) -> dict[str, Any]:
    """For `/tokenize`, as a completion's or an embedding's text is read: with what the model puts before and after."""
    return {"content": text, "add_special": True, "parse_special": True}
