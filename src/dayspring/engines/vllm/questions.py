"""What a running vLLM is asked beside tasks: is it well, how long is its context, how many tokens is a prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from dayspring.core.errors import Defect, InvalidRequest

__all__ = ["Questions"]

T = TypeVar("T")

_LIMIT_S = 60
_ANSWER_BYTES = 256 << 20


class _Count(msgspec.Struct):
    count: int


class _Text(msgspec.Struct):
    prompt: str


class _Model(msgspec.Struct):
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class Questions:
    """Over the socket, with the key. The paths outside /v1 ask for none: the socket's folder is their guard."""

    def __init__(self, model: str, served_name: str, socket: Path, key: str) -> None:
        self._model = model
        self._name = served_name
        self.http = aiohttp.ClientSession(
            "http://vllm.local",
            connector=aiohttp.UnixConnector(str(socket), limit=0),
            headers={"Authorization": f"Bearer {key}"},
            timeout=aiohttp.ClientTimeout(total=_LIMIT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def context_tokens(self) -> int:
        """Most tokens of a request, prompt and answer together; 0 when it is not told."""
        async with self.http.get("/v1/models") as answer:
            body = await answer.content.read(_ANSWER_BYTES) if answer.status == 200 else b"{}"
        lengths = [model.max_model_len or 0 for model in _decoded(body, _Models).data]
        return max(lengths, default=0)

    async def count(self, body: dict[str, Any]) -> int:
        """Tokens of a prompt or of messages, as a run would read them. Raises InvalidRequest for what is unreadable."""
        return (await self._ask("/tokenize", body, _Count)).count

    async def text(self, tokens: Sequence[int]) -> str:
        return (await self._ask("/detokenize", {"tokens": tokens}, _Text)).prompt

    async def close(self) -> None:
        await self.http.close()

    async def _ask(self, path: str, body: dict[str, Any], kind: type[T]) -> T:
        data = msgspec.json.encode({"model": self._name, **body})
        headers = {"Content-Type": "application/json"}
        async with self.http.post(path, data=data, headers=headers) as answer:
            content = await answer.read()
        if 400 <= answer.status < 500:
            raise InvalidRequest(
                f"{self._model!r} cannot use a part of this request. Check the roles and order of the messages and the "
                "tokens of the prompt."
            )
        if answer.status != 200:
            raise Defect
        return _decoded(content, kind)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise Defect from None
