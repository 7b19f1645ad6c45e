"""One request to one target: sent, its head checked, its bytes read within every limit.

What holds: no redirect is followed, so a key goes to the configured host only; each wait has its limit, told apart by
the setting that sets it; no more than the allowed bytes are held, packed or unpacked; `close` cuts the connection at
once unless the answer was read to its end. No time limit runs while a caller holds what was read.
"""

import asyncio
import zlib
from typing import Final

import aiohttp

from dayspring.contracts.clock import Clock
from dayspring.core.errors import UpstreamFailed
from dayspring.engines.upstream.failures import AttemptError, malformed, refusal, retry_after_s, timed_out, unreachable
from dayspring.engines.upstream.lanes import Lane

__all__ = ["Exchange", "Limits"]

_ERROR_BYTES: Final = 64 << 10
_GZIP_WINDOW: Final = 31  # zlib's way to say: gzip framing, largest window
_DRAIN_S: Final = 0.05


class Limits:
    """What bounds one run, over all targets it tries. `deadline_s` is by the running loop's clock."""

    __slots__ = ("answer_bytes", "deadline_s", "setting", "total_s")

    def __init__(self, *, total_s: float, setting: str, answer_bytes: int) -> None:
        self.total_s = total_s
        self.setting = setting
        self.answer_bytes = answer_bytes
        self.deadline_s = asyncio.get_running_loop().time() + total_s


class Exchange:
    """`begin`, then `read` until None, then `close`, whatever happened before."""

    def __init__(self, http: aiohttp.ClientSession, lane: Lane, limits: Limits, model: str, clock: Clock) -> None:
        self._http = http
        self._lane = lane
        self._limits = limits
        self._model = model
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._response: aiohttp.ClientResponse | None = None
        self._unpacker: zlib._Decompress | None = None
        self._taken = 0
        self._total_s = min(self._loop.time() + lane.target.total_timeout_s, limits.deadline_s)
        self._first_s = self._loop.time() + lane.target.first_byte_timeout_s
        self._first = True

    async def begin(self, path: str, body: bytes, media_type: str) -> None:
        """Send it and read the head of the answer. Raises AttemptError unless that is 200; UpstreamFailed for a
        media type other than this one."""
        lane, model = self._lane, self._model
        try:
            async with asyncio.timeout_at(min(self._first_s, self._total_s)):
                try:
                    self._response = await self._post(path, body, media_type)
                except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                    # A kept connection that the service closed as we took it. Nothing came, so it is asked once more.
                    self._response = await self._post(path, body, media_type)
                if self._response.status != 200:
                    raise await self._refused(self._response)
        except aiohttp.ConnectionTimeoutError:
            raise timed_out(
                model, limit_s=lane.target.connect_timeout_s, setting="connect_timeout_s of the model's target"
            ) from None
        except TimeoutError:
            raise self._late() from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise unreachable(model, "has a certificate that is not trusted") from None
        except (aiohttp.ClientConnectionError, ConnectionError):
            raise unreachable(model) from None
        except (aiohttp.ClientError, ValueError):
            raise unreachable(model, "answered with something other than HTTP") from None
        self._check_head(self._response, media_type)

    async def read(self) -> bytes | None:
        """The next bytes, unpacked, perhaps none; None at the end. Raises AttemptError or UpstreamFailed."""
        response = self._response
        if response is None:
            return None
        content = response.content
        try:
            chunk = content.read_nowait()
            if not chunk and not content.at_eof():
                now = self._loop.time()
                limit = self._first_s if self._first else now + self._lane.target.idle_timeout_s
                async with asyncio.timeout_at(min(limit, self._total_s)):
                    chunk = await content.readany()
        except TimeoutError:
            raise self._late() from None
        except (aiohttp.ClientError, ConnectionError, ValueError):
            raise self._broken("broke off its answer") from None
        if not chunk:
            if self._unpacker is not None and not self._unpacker.eof:
                raise self._broken("broke off its answer")
            return None
        return self._take(chunk)

    async def read_all(self) -> bytes:
        """The whole answer, unpacked. Raises AttemptError or UpstreamFailed."""
        parts: list[bytes] = []
        while (part := await self.read()) is not None:
            parts.append(part)
            self._first = False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def first_event_came(self) -> None:
        """From now on a wait is limited by the idle time."""
        self._first = False

    async def drain(self) -> None:
        """After the last event: take the end of the stream if it is about to come, so that the connection is kept."""
        try:
            async with asyncio.timeout(_DRAIN_S):
                while self._response is not None and await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, ConnectionError, ValueError):
            self.close()

    def close(self) -> None:
        """Cut the connection, unless the answer was read to its end: then it is kept already."""
        if self._response is not None:
            self._response.close()
            self._response = None

    async def _post(self, path: str, body: bytes, media_type: str) -> aiohttp.ClientResponse:
        lane = self._lane
        return await self._http.post(
            lane.urls[path], data=body, headers=lane.headers[media_type], allow_redirects=False, timeout=lane.timeout
        )

    async def _refused(self, response: aiohttp.ClientResponse) -> AttemptError:
        """What an answer with another status means; its body is read as far as it is there and short."""
        self._start_unpacking(response)
        body = b""
        try:
            while len(body) < _ERROR_BYTES and (chunk := await response.content.readany()):
                body += self._take(chunk)
        except (aiohttp.ClientError, ConnectionError, ValueError, UpstreamFailed):
            body = b""
        wait_s = retry_after_s(response.headers, self._clock.time_ns() / 1e9)
        return refusal(self._model, self._lane.host, response.status, body, wait_s)

    def _check_head(self, response: aiohttp.ClientResponse, media_type: str) -> None:
        found = response.headers.get("Content-Type", "")
        if found != media_type and found.partition(";")[0].strip().lower() != media_type:
            raise self._broken("answered in another format than was asked for")
        if (response.content_length or 0) > self._limits.answer_bytes:
            raise self._oversized()
        self._start_unpacking(response)

    def _start_unpacking(self, response: aiohttp.ClientResponse) -> None:
        packing = response.headers.get("Content-Encoding")
        if packing and (packing := packing.strip().lower()) != "identity":
            if packing not in {"gzip", "x-gzip"}:
                raise self._broken("packed its answer in a way that was not asked for")
            self._unpacker = zlib.decompressobj(_GZIP_WINDOW)

    def _take(self, chunk: bytes) -> bytes:
        if self._unpacker is not None:
            try:
                # One byte more than is allowed is enough to know.
                chunk = self._unpacker.decompress(chunk, self._limits.answer_bytes - self._taken + 1)
            except zlib.error:
                raise self._broken("packed its answer wrongly") from None
        self._taken += len(chunk)
        if self._taken > self._limits.answer_bytes:
            raise self._oversized()
        if self._loop.time() > self._total_s:
            raise self._late()
        return chunk

    def _late(self) -> AttemptError:
        """Which limit ran out."""
        target, now = self._lane.target, self._loop.time()
        if now >= self._limits.deadline_s:
            return timed_out(self._model, limit_s=self._limits.total_s, setting=self._limits.setting, started=True)
        name = "idle_timeout_s"
        if now >= self._total_s:
            name = "total_timeout_s"
        elif self._first:
            name = "first_byte_timeout_s"
        setting = f"{name} of the model's target"
        return timed_out(self._model, limit_s=getattr(target, name), setting=setting, started=not self._first)

    def _broken(self, reason: str) -> UpstreamFailed:
        return malformed(self._model, reason)

    def _oversized(self) -> UpstreamFailed:
        return self._broken(f"sent more than the {self._limits.answer_bytes} bytes that max_answer_bytes allows")
