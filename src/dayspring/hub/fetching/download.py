"""Fetching one remote file into the blob store, going on where an earlier try stopped.

What holds: a resumed file has the hash it should, or is fetched again from its start; no answer can make us write more
than was announced; what was fetched survives the death of the process.
"""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dayspring.contracts.blobs import BlobStore, Partial
from dayspring.core.errors import Busy, PermissionDenied, Refused, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.plan import Remote
from dayspring.hub.sources.access import asks_to_sign_in, denied, secret_headers
from dayspring.net.answers import Answer
from dayspring.net.fetcher import Fetcher, Request
from dayspring.net.locations import host_of

__all__ = ["Downloader"]

T = TypeVar("T")

_WRITE_BYTES = 1 << 20
_MAX_UNKNOWN_BYTES = 1 << 40
_MAX_FRUITLESS = 5

Report = Callable[[int, int], None]
"""Called with bytes done and bytes in all (0: not known)."""


class Downloader:
    """`let_go` drops stored files that nothing refers to. `pause_s` is the wait after a first failure; it doubles while
    no byte comes."""

    def __init__(
        self,
        fetcher: Fetcher,
        blobs: BlobStore,
        settings: Settings,
        *,
        let_go: Callable[[set[str]], None],
        pause_s: float = 1,
    ) -> None:
        self._let_go = let_go
        self._fetcher = fetcher
        self._blobs = blobs
        self._settings = settings
        self._pause_s = pause_s

    async def fetch(self, remote: Remote, report: Report) -> str:
        """The digest of the file, now a blob. Raises Refused for other bytes than promised, Unavailable."""
        if remote.sha256 and self._blobs.hold(remote.sha256):
            return remote.sha256
        partial = await asyncio.to_thread(self._blobs.partial, remote.sha256 or remote.url)
        with partial:
            resumed = partial.size_bytes > 0
            await self._fill(remote, partial, report)
            try:
                digest = await _in_thread(partial.finish, remote.sha256)
            except Refused:
                if not resumed:
                    raise _other_bytes(remote, "it has another SHA-256 than was promised") from None
                # The bytes of the earlier try may have been of another version: once more, all from one answer.
                await self._fill(remote, partial, report)
                try:
                    digest = await _in_thread(partial.finish, remote.sha256)
                except Refused:
                    raise _other_bytes(remote, "it has another SHA-256 than was promised") from None
        if remote.git_oid:
            await asyncio.to_thread(self._check_git, remote, digest)
        if remote.sha512:
            await asyncio.to_thread(self._check_sha512, remote, digest)
        return digest

    def here(self, remote: Remote) -> Path | None:
        """The file on this machine, if it was fetched before and is known by its hash."""
        return self._blobs.path(remote.sha256) if remote.sha256 and self._blobs.has(remote.sha256) else None

    def request(self, remote: Remote) -> Request:
        """The request for a file, with the secret that its place asks for."""
        return Request(remote.url, {}, secret_headers(self._settings, remote), remote.operator)

    async def _fill(self, remote: Remote, partial: Partial, report: Report) -> None:
        """Bring the partial to its full length, over as many answers as it takes."""
        fruitless = 0
        while True:
            before = partial.size_bytes
            try:
                if await self._read_once(remote, partial, report):
                    return
                error: Unavailable | Busy = _cut_short(remote)
            except (Unavailable, Busy) as caught:
                error = caught
            except PermissionDenied as refusal:
                raise (denied(self._settings, remote) or refusal) from None
            fruitless = fruitless + 1 if partial.size_bytes <= before else 0
            if fruitless >= _MAX_FRUITLESS:
                raise error
            await asyncio.sleep(max(self._pause_s * 2**fruitless, min(error.retry_after_s or 0, 60) * self._pause_s))

    async def _read_once(self, remote: Remote, partial: Partial, report: Report) -> bool:
        """One answer. Returns whether the file is complete."""
        at = partial.size_bytes
        if at and not (remote.sha256 or partial.tag):
            partial.restart("")
            at = 0
        if at and at == remote.size_bytes:
            return True
        request = self.request(remote)
        if at:
            condition = {"If-Range": partial.tag} if partial.tag else {}
            request = Request(
                request.url, {"Range": f"bytes={at}-", **condition}, request.secret_headers, request.operator
            )
        async with self._fetcher.open(request) as answer:
            if asks_to_sign_in(remote, answer.url):
                raise PermissionDenied("The hub asks to sign in", "Set its token.")
            _check_promises(remote, answer)
            if answer.status == 206 and at:
                start, whole = _content_range(answer)
                if start != at:
                    partial.restart("")
                    return False
            else:
                partial.restart(_strong_tag(answer))
                length = answer.headers.get("Content-Length", "")
                whole = int(length) if length.isdigit() else 0
            if whole and remote.size_bytes and whole != remote.size_bytes:
                raise _other_bytes(remote, f"it has {whole} bytes and {remote.size_bytes} were announced")
            total = remote.size_bytes or whole
            await self._pour(answer, partial, remote, total, report)
        return not total or partial.size_bytes == total

    async def _pour(self, answer: Answer, partial: Partial, remote: Remote, total: int, report: Report) -> None:
        held = bytearray()
        try:
            async for chunk in answer.chunks():
                held += chunk
                if partial.size_bytes + len(held) > (total or _MAX_UNKNOWN_BYTES):
                    raise _other_bytes(remote, f"more than the announced {total} bytes came")
                if len(held) >= _WRITE_BYTES:
                    ready, held = bytes(held), bytearray()
                    await _in_thread(partial.write, ready)
                    report(partial.size_bytes, total)
        except Refused:
            partial.restart("")
            held.clear()
            raise
        finally:
            # Also when the answer broke off or the task was cancelled: what came is kept.
            partial.write(bytes(held))
        report(partial.size_bytes, total)

    def _check_git(self, remote: Remote, digest: str) -> None:
        data = b"".join(self._blobs.read(digest))
        if hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() != remote.git_oid:
            self._let_go({digest})
            raise _other_bytes(remote, "it is not the file of the commit")

    def _check_sha512(self, remote: Remote, digest: str) -> None:
        seen = hashlib.sha512()
        for chunk in self._blobs.read(digest):
            seen.update(chunk)
        if seen.hexdigest() != remote.sha512:
            self._let_go({digest})
            raise _other_bytes(remote, "it has another SHA-512 than the registry promises")


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """`work` in a thread, waited for even when cancelled: two threads must never write to one partial."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _check_promises(remote: Remote, answer: Answer) -> None:
    for name, promised in remote.expect_headers.items():
        said = answer.header(name).strip().removeprefix("W/").strip('"')
        if said and said != promised:
            raise _other_bytes(remote, f"the hub now says {name} {said[:80]!r} and said {promised!r} before")


def _content_range(answer: Answer) -> tuple[int, int]:
    """First byte and whole length, -1 and 0 for what cannot be read."""
    where, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    start = where.partition("-")[0]
    return int(start) if start.isdigit() else -1, int(whole) if whole.isdigit() else 0


def _strong_tag(answer: Answer) -> str:
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""


def _other_bytes(remote: Remote, rule: str) -> Refused:
    name = remote.url.split("?", 1)[0]
    remedy = "Plan again; if it stays so, the source was changed or tampered with."
    return Refused(file=name, rule=rule, remedy=remedy)


def _cut_short(remote: Remote) -> Unavailable:
    return Unavailable(
        f"{host_of(remote.url)} ended its answer before the file was whole",
        "Try again: what was fetched is kept.",
        retry_after_s=5,
    )
