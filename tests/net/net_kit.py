"""What the tests of the fetcher share."""

import socket
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from dayspring.net.fetcher import Fetcher, Request

__all__ = ["Names", "app", "body", "hello"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def body(fetcher: Fetcher, request: Request) -> bytes:
    async with fetcher.open(request) as answer:
        return await answer.document()


async def hello(_: web.Request) -> web.Response:
    return web.Response(body=b"hello")


def app(**handlers: Handler) -> web.Application:
    """An application that answers GET and POST of /name with the handler of that name; `root` is /."""
    made = web.Application()
    for name, handler in handlers.items():
        made.router.add_route("*", "/" if name == "root" else f"/{name}", handler)
    return made


class Names(AbstractResolver):
    """A resolver of the test's own: each look-up of a name takes the next of its answers, the last for good."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): given for name, given in answers.items()}
        self.asked: list[str] = []

    def __call__(self) -> "Names":
        return self  # stands in for the class that makes resolvers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        given = self.answers[host]
        addresses = given.pop(0) if len(given) > 1 else given[0]
        return [
            ResolveResult(
                hostname=host, host=address, port=port, proto=0, flags=0,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            )
            for address in addresses
        ]  # fmt: skip

    async def close(self) -> None: ...
