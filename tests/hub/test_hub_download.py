"""A download ends with the right bytes or says why not, whatever the server does on the way."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from hub_files import sha256

from dayspring.blobs.disk import DiskBlobs
from dayspring.core.errors import Refused, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.fetching.download import Downloader
from dayspring.hub.plan import Remote
from dayspring.net.fetcher import Fetcher
from loopback import Serve

DATA = bytes(range(256)) * 12_000  # 3 MB


class Flaky:
    """Serves DATA with ranges and an ETag; each fault is used up by one request, in order."""

    def __init__(self, *faults: str, data: bytes = DATA, ranges: bool = True, tag: str = '"v1"') -> None:
        self.faults = list(faults)
        self.data = data
        self.ranges = ranges
        self.tag = tag
        self.asked: list[str] = []
        self.afterwards: tuple[bytes, str] | None = None
        """What the file and its tag become after the first answer."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "500":
            return web.Response(status=500)
        start = 0
        fresh = request.headers.get("If-Range", self.tag) == self.tag
        if asked and self.ranges and fresh:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        body = self.data[start:]
        headers = {"Content-Length": str(len(body))}
        if self.tag:
            headers["ETag"] = self.tag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        if fault == "wrong-offset":
            headers["Content-Range"] = f"bytes 5-{len(self.data) - 1}/{len(self.data)}"
        if fault == "long":
            body += b"more"
            headers["Content-Length"] = str(len(body))
        if fault == "chunked-long":
            del headers["Content-Length"]
            body += b"more"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        if fault == "cut":
            await response.write(body[: len(body) // 2])
            assert request.transport is not None
            request.transport.close()
            self.data, self.tag = self.afterwards or (self.data, self.tag)
            return response
        await response.write(body)
        return response


@pytest.fixture
async def downloader(tmp_path: Path) -> AsyncIterator[Downloader]:
    fetcher = Fetcher(allow_loopback=True, stall_s=2)
    blobs = DiskBlobs(tmp_path / "blobs")
    yield Downloader(
        fetcher, blobs, Settings(home=tmp_path), let_go=lambda digests: blobs.release(digests, set), pause_s=0
    )
    await fetcher.close()


async def start(serve: Serve, flaky: Flaky) -> str:
    app = web.Application()
    app.router.add_get("/file", flaky.answer)
    return f"{await serve(app)}/file"


def unheard(done: int, total: int) -> None: ...


async def test_a_whole_file_arrives_and_progress_is_told(downloader: Downloader, serve: Serve) -> None:
    told: list[tuple[int, int]] = []
    url = await start(serve, Flaky())
    digest = await downloader.fetch(
        Remote(url, sha256(DATA), len(DATA)), lambda done, total: told.append((done, total))
    )
    assert b"".join(downloader._blobs.read(digest)) == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert told == sorted(told)


@pytest.mark.parametrize("known", ["hash and size", "nothing"])
async def test_a_cut_download_goes_on_where_it_stopped(downloader: Downloader, serve: Serve, known: str) -> None:
    flaky = Flaky("cut", "cut", "500")
    remote = Remote(await start(serve, flaky))
    if known != "nothing":
        remote = Remote(remote.url, sha256(DATA), len(DATA))
    assert await downloader.fetch(remote, unheard) == sha256(DATA)
    starts = [int(asked[6:-1]) if asked else 0 for asked in flaky.asked]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert len(set(starts)) == 3


async def test_a_server_without_ranges_starts_over(downloader: Downloader, serve: Serve) -> None:
    flaky = Flaky("cut", ranges=False)
    assert await downloader.fetch(Remote(await start(serve, flaky), sha256(DATA)), unheard) == sha256(DATA)


async def test_a_file_that_changed_between_two_tries_is_fetched_anew(downloader: Downloader, serve: Serve) -> None:
    flaky = Flaky("cut", data=DATA[::-1])
    flaky.afterwards = (DATA, '"v2"')
    assert await downloader.fetch(Remote(await start(serve, flaky)), unheard) == sha256(DATA)
    assert flaky.asked[1] != ""


async def test_a_resumed_file_with_the_wrong_hash_is_fetched_once_more(downloader: Downloader, serve: Serve) -> None:
    digest = sha256(DATA)
    with downloader._blobs.partial(digest) as partial:
        partial.restart("")
        partial.write(b"bytes of another version")
    assert await downloader.fetch(Remote(await start(serve, Flaky()), digest, len(DATA)), unheard) == digest


async def test_the_wrong_hash_is_refused_and_nothing_is_kept(downloader: Downloader, serve: Serve) -> None:
    wrong = sha256(b"other")
    with pytest.raises(Refused, match="another SHA-256"):
        await downloader.fetch(Remote(await start(serve, Flaky()), wrong), unheard)
    assert not downloader._blobs.has(wrong)
    assert not downloader._blobs.has(sha256(DATA))


@pytest.mark.parametrize("fault", ["long", "chunked-long"])
async def test_more_bytes_than_announced_are_refused(downloader: Downloader, serve: Serve, fault: str) -> None:
    with pytest.raises(Refused, match="announced"):
        await downloader.fetch(Remote(await start(serve, Flaky(fault)), sha256(DATA), len(DATA)), unheard)


async def test_another_range_than_asked_for_starts_over(downloader: Downloader, serve: Serve) -> None:
    flaky = Flaky("cut", "wrong-offset")
    assert await downloader.fetch(Remote(await start(serve, flaky), sha256(DATA), len(DATA)), unheard) == sha256(DATA)
    assert flaky.asked[2] == ""


async def test_a_server_that_never_gives_more_is_given_up_and_what_came_is_kept(
    downloader: Downloader, serve: Serve
) -> None:
    flaky = Flaky("cut", *["500"] * 20)
    remote = Remote(await start(serve, flaky), sha256(DATA), len(DATA))
    with pytest.raises(Unavailable):
        await downloader.fetch(remote, unheard)
    assert len(flaky.asked) == 6
    with downloader._blobs.partial(sha256(DATA)) as partial:
        assert 0 < partial.size_bytes < len(DATA)


async def test_a_cancelled_download_keeps_what_came(downloader: Downloader, serve: Serve) -> None:
    half = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA)), "ETag": '"v1"'})
        await response.prepare(request)
        await response.write(DATA[: 2 << 20])
        await half.wait()
        return response

    app = web.Application()
    app.router.add_get("/file", slow)
    remote = Remote(f"{await serve(app)}/file", sha256(DATA), len(DATA))
    seen = asyncio.Event()
    task = asyncio.create_task(downloader.fetch(remote, lambda done, total: seen.set()))
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    half.set()
    with downloader._blobs.partial(sha256(DATA)) as partial:
        assert partial.size_bytes >= 1 << 20
        assert partial._file.read_bytes() == DATA[: partial.size_bytes]


async def test_what_is_here_already_is_not_asked_for(downloader: Downloader, serve: Serve) -> None:
    flaky = Flaky()
    url = await start(serve, flaky)
    digest = downloader._blobs.put([DATA])
    assert await downloader.fetch(Remote(url, digest), unheard) == digest
    assert flaky.asked == []
