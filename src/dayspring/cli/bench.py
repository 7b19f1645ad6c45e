"""`dayspring bench`: measures a running server as a client sees it.

Every request is a streamed chat of its own wording, so that no cache answers for the model. What it does not do: tell
the server's own part from the model's; `make bench` does that.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Annotated, Any

import aiohttp
import msgspec
import typer

from dayspring.cli.terminal import AsJson, Home, print_json, print_table, settings_for
from dayspring.core.errors import InvalidRequest, Unavailable
from dayspring.core.money import format_amount
from dayspring.core.settings import Settings

__all__ = ["bench"]

_PROMPT = "Tell me, at length and in plain words, about the number {number}, where it turns up and what it is good for."
_WAIT_S = 600.0


class Answer(msgspec.Struct, frozen=True):
    """One request, as its client saw it."""

    first_s: float
    """Until the first chunk with a piece of the answer."""
    whole_s: float
    output_tokens: int
    price_nanos: int | None
    """None: the key may not see it."""
    cost_nanos: int | None


class Line(msgspec.Struct, frozen=True):
    """All requests of one number of streams."""

    streams: int
    requests: int
    output_tokens: int
    tokens_per_s: float
    """Of all streams together, over the time from the first request to the last answer of each round."""
    first_token_p50_ms: float
    first_token_p95_ms: float
    price_nanos: int | None
    cost_nanos: int | None


def bench(
    model: Annotated[str, typer.Option(help="The model to ask.")],
    url: Annotated[str | None, typer.Option(help="The server, by default this machine's, from the settings.")] = None,
    key: Annotated[str | None, typer.Option(help="API key, by default admin.key in the data folder.")] = None,
    streams: Annotated[str, typer.Option(help="Requests at a time; one measurement for each number.")] = "1,8",
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of an answer.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each measurement.")] = 3,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Measure a running server: tokens a second, time to the first token, price and cost."""
    settings = settings_for(home)
    numbers = _numbers(streams)
    client = _Client(url or _own_url(settings), key or _own_key(settings), model, tokens)
    lines = asyncio.run(_measure(client, numbers, rounds))
    if as_json:
        print_json(msgspec.to_builtins(lines))
        return
    columns = (">Streams", ">Requests", ">Tokens/s", ">First token p50", ">p95", ">Tokens", ">Price", ">Cost")
    print_table(columns, [_row(line) for line in lines], empty="")


class _Client:
    def __init__(self, url: str, key: str, model: str, tokens: int) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._model = model
        self._tokens = tokens
        self._asked = time.time_ns()

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=_WAIT_S),
            trust_env=False,
        )

    async def ask(self, session: aiohttp.ClientSession) -> Answer:
        """One request. Raises InvalidRequest with the server's own words, Unavailable when nobody answers."""
        self._asked += 1
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": _PROMPT.format(number=self._asked)}],
            "max_completion_tokens": self._tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began = time.perf_counter()
        try:
            async with session.post(f"{self.url}/v1/chat/completions", json=body) as response:
                if response.status != 200:
                    raise InvalidRequest(_words(await response.read(), response.status))
                return await self._read(response, began)
        except (aiohttp.ClientError, TimeoutError):
            raise Unavailable(
                f"No whole answer came from {self.url}", "Start the server with 'dayspring serve', or give its --url."
            ) from None

    async def _read(self, response: aiohttp.ClientResponse, began: float) -> Answer:
        first_s = 0.0
        last: dict[str, Any] = {}
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            last = msgspec.json.decode(line[6:])
            if "error" in last:
                raise InvalidRequest(last["error"]["message"])
            if not first_s and last["choices"] and _says_something(last["choices"][0]):
                first_s = time.perf_counter() - began
        usage = last.get("usage") or {}
        account = last.get("dayspring") or {}
        return Answer(
            first_s,
            time.perf_counter() - began,
            usage.get("completion_tokens", 0),
            account.get("price_nanos"),
            account.get("cost_nanos"),
        )


def _says_something(choice: dict[str, Any]) -> bool:
    """Whether the chunk does more than name the speaker."""
    return bool(choice["finish_reason"]) or any(value for name, value in choice["delta"].items() if name != "role")


async def _measure(client: _Client, numbers: Sequence[int], rounds: int) -> list[Line]:
    async with client.session() as session:
        _say(f"{client.url}: the model is asked once, so that it is loaded")
        await client.ask(session)
        lines = []
        for number in numbers:
            answers: list[Answer] = []
            seconds = 0.0
            for turn in range(1, rounds + 1):
                began = time.perf_counter()
                answers += await asyncio.gather(*(client.ask(session) for _ in range(number)))
                seconds += time.perf_counter() - began
                rate = sum(answer.output_tokens for answer in answers) / seconds
                _say(f"{number} at a time, round {turn} of {rounds}: {rate:.1f} tokens/s")
            lines.append(_line(number, answers, seconds))
        _say("")
        return lines


def _line(number: int, answers: Sequence[Answer], seconds: float) -> Line:
    firsts = [answer.first_s * 1000 for answer in answers]
    tokens = sum(answer.output_tokens for answer in answers)
    return Line(
        number,
        len(answers),
        tokens,
        round(tokens / seconds, 2),
        round(median(firsts), 2),
        round(quantiles(firsts, n=20, method="inclusive")[-1] if len(firsts) > 1 else firsts[0], 2),
        _sum(answer.price_nanos for answer in answers),
        _sum(answer.cost_nanos for answer in answers),
    )


def _sum(amounts: Any) -> int | None:
    found = list(amounts)
    return None if None in found else sum(found)


def _row(line: Line) -> tuple[object, ...]:
    seen = [None if amount is None else format_amount(amount) for amount in (line.price_nanos, line.cost_nanos)]
    return (
        line.streams,
        line.requests,
        f"{line.tokens_per_s:.1f}",
        f"{line.first_token_p50_ms:.0f} ms",
        f"{line.first_token_p95_ms:.0f} ms",
        line.output_tokens,
        *(amount or "not shown" for amount in seen),
    )


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 1024 for part in parts):
        raise InvalidRequest(f"{text!r} is no list of numbers from 1 to 1024. Write it as 1,8.")
    return [int(part) for part in parts]


def _own_url(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _own_key(settings: Settings) -> str:
    path = settings.home / "admin.key"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        raise InvalidRequest(
            f"There is no key at {str(path)!r}. Give one with --key, or the --home it is in."
        ) from None


def _words(body: bytes, status: int) -> str:
    """What the server says, when it speaks as ours does."""
    try:
        return str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"The server answered with status {status}. Check the --url."


def _say(text: str) -> None:
    """A line that the next one replaces; on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
