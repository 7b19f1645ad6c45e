"""What came back: an open answer to be read piece by piece, or a whole one."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec

from dayspring.core.errors import Busy, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.net.locations import bare, host_of

__all__ = ["MAX_DOCUMENT_BYTES", "Answer", "Reply", "broken", "check_status"]

MAX_DOCUMENT_BYTES = 64 << 20
_READ_BYTES = 1 << 18


class Answer:
    """An open answer. `hops` are the redirect answers on the way, oldest first."""

    def __init__(self, response: aiohttp.ClientResponse, hops: list[aiohttp.ClientResponse], *, private: bool) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = str(response.url)
        self.private = private
        """The operator's host is in a private network, so what it points at may be there too."""
        self.hops = hops

    def close(self) -> None:
        self._response.close()

    def header(self, name: str) -> str:
        """The header of the first answer that has it: a hub says what a file is before it redirects to where."""
        return next((hop.headers[name] for hop in (*self.hops, self._response) if name in hop.headers), "")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it was sent, never decompressed. Raises Unavailable when it ends early, stalls or takes too
        long."""
        try:
            async for chunk in self._response.content.iter_chunked(_READ_BYTES):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise broken(self.url) from None

    async def document(self, limit_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The whole body. Raises Refused over the limit, and for a compressed one: we ask for none."""
        if self.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise Refused(file=bare(self.url), rule="the answer is compressed", remedy="Serve it plain.")
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit_bytes:
                raise Refused(
                    file=bare(self.url), rule=f"the answer is over {limit_bytes} bytes", remedy="Check the address."
                )
        return bytes(body)


class Reply(msgspec.Struct, frozen=True):
    """A whole answer. Header names are in lower case; of a repeated one the last counts."""

    status: int
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. Raises Unavailable when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Unavailable(
                f"{host_of(self.url)} answered with something that is not JSON", "Check the address."
            ) from None


def check_status(answer: Answer, url: str) -> None:
    """Raises what a status that is no success means for whoever asked."""
    status, host = answer.status, host_of(url)
    if status in (200, 206):
        return
    if status == 416:
        raise Unavailable(f"{host} has no such part of the file", "Try again: it starts afresh.")
    if status in (401, 403, 407):
        raise PermissionDenied(f"{host} does not let us have {bare(url)!r}", "Check the key or token for it.")
    if status in (404, 410):
        raise NotFound("file", bare(url), "Check the name and the version.")
    if status == 429:
        wait = answer.headers.get("Retry-After", "")
        raise Busy(f"{host} asks for patience", retry_after_s=float(wait) if wait.isdigit() else 60)
    raise Unavailable(f"{host} answered with status {status}", "Try again later.", retry_after_s=30)


def broken(url: str) -> Unavailable:
    return Unavailable(
        f"The connection to {host_of(url)} failed",
        "Check the network, the proxy and the certificate settings, then try again: what was fetched is kept.",
        retry_after_s=5,
    )
