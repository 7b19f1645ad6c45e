"""Pictures in messages: read, checked and made `data:` URLs before a task is priced and leaves the server.

What holds: a picture reaches an engine as bytes whose type and size were read from their content; an address is fetched
here, by the one safe way out, within limits of size and time, and never by an engine or a service; a model that has no
eyes refuses a picture by the name of its field. Every metered request comes by here, whichever room made the task: a
room brings its pictures into OpenAI's `image_url` part. What it does not do: decode.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from dayspring.contracts.models import Modality, Model
from dayspring.contracts.tasks import ChatTask
from dayspring.core.errors import DayspringError, InvalidRequest, UnsupportedParameter
from dayspring.core.pictures import DATA_URL_PREFIX, as_data_url, from_data_url, read_picture
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["MAX_PICTURES", "MAX_PICTURE_BYTES", "Pictures"]

MAX_PICTURES = 32
MAX_PICTURE_BYTES = 20 << 20
MAX_TOTAL_BYTES = 64 << 20
"""Of all pictures of a request; a frame to a worker holds four times as much."""
FETCH_LIMIT_S = 30.0
"""For all pictures of a request together; they are fetched one after the other, so that few bytes are held."""
_THREAD_FROM = 256 << 10
"""Characters from which base64 is worth a thread: below, decoding takes under half a millisecond."""


class Pictures:
    """`fetcher` is closed by whoever made it; one is made here when the first address comes."""

    def __init__(self, fetcher: Fetcher | None = None) -> None:
        self._fetcher = fetcher

    async def close(self) -> None:
        if self._fetcher is not None:
            await self._fetcher.close()

    async def resolved(self, task: ChatTask, model: Model) -> ChatTask:
        """The task with every picture as a checked `data:` URL; the task itself where it has none.

        Raises UnsupportedParameter where the model reads no pictures, InvalidRequest for what is none or too large, and
        what fetching raises.
        """
        places = list(_places(task.messages))
        if not places:
            return task
        first = f"messages.{places[0][0]}.content"
        if not model.may_read(Modality.IMAGE):
            raise UnsupportedParameter(first, "this model reads no pictures. Send text, or choose one that does")
        if len(places) > MAX_PICTURES:
            raise InvalidRequest(f"At most {MAX_PICTURES} pictures in a request. Send fewer.", param=first)
        messages = [dict(message) for message in task.messages]
        total, ends_s = 0, asyncio.get_running_loop().time() + FETCH_LIMIT_S
        for message, part in places:
            content = list(messages[message]["content"])
            where = f"messages.{message}.content.{part}.image_url"
            url = await self.read(content[part]["image_url"]["url"], where, ends_s)
            if (total := total + len(url) * 3 // 4) > MAX_TOTAL_BYTES:
                raise InvalidRequest(f"The pictures are over {MAX_TOTAL_BYTES >> 20} MiB. Send less.", param=where)
            content[part] = {**content[part], "image_url": {**content[part]["image_url"], "url": url}}
            messages[message]["content"] = content
        return msgspec.structs.replace(task, messages=tuple(messages))

    async def read(self, url: str, where: str, ends_s: float) -> str:
        """One picture, as a `data:` URL with the type its content has. `where` names the field in refusals; `ends_s`
        is when fetching must be over, by the loop's clock."""
        if url[: len(DATA_URL_PREFIX)].lower() == DATA_URL_PREFIX:
            if len(url) < _THREAD_FROM:
                return _checked(from_data_url(url, where), where)
            return await asyncio.to_thread(lambda: _checked(from_data_url(url, where), where))
        if not url.lower().startswith(("https://", "http://")):
            raise InvalidRequest("A picture is a data: URL or an http or https address. Send one.", param=where)
        data = await self._fetched(url, where, ends_s - asyncio.get_running_loop().time())
        return await asyncio.to_thread(_checked, data, where)

    async def _fetched(self, url: str, where: str, left_s: float) -> bytes:
        if self._fetcher is None:
            self._fetcher = Fetcher()
        try:
            reply = await self._fetcher.get(Request(url), limit_bytes=MAX_PICTURE_BYTES, timeout_s=max(left_s, 0.001))
        except InvalidRequest as refused:
            raise InvalidRequest(refused.message, param=where) from None
        except DayspringError as failed:
            # Whatever kept it from us, the address is the request's: it is not a fault of this server.
            raise InvalidRequest(f"The picture could not be fetched: {failed.message}", param=where) from None
        return reply.body


def _places(messages: tuple[dict[str, Any], ...]) -> Iterator[tuple[int, int]]:
    """Message and part of every picture."""
    for number, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list | tuple):
            for place, part in enumerate(content):
                if part.get("type") == Modality.IMAGE:
                    yield number, place


def _checked(data: bytes, where: str) -> str:
    if len(data) > MAX_PICTURE_BYTES:
        raise InvalidRequest(f"The picture is over {MAX_PICTURE_BYTES >> 20} MiB. Send a smaller one.", param=where)
    return as_data_url(data, read_picture(data, where).media_type)
