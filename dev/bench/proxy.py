"""The least proxy there is, FastAPI and aiohttp, to compare HTTP servers by: `python -m dev.bench.proxy SERVER PORT`.

SERVER is `uvicorn` (its Server in our own loop, as `dayspring serve` has it), `granian` (one worker process under its
supervisor) or `granian-embedded` (its embedded server in our own loop). It says on standard output what happened to its
streams and when its lifespan ended.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.server.embed import Server as EmbeddedServer

GRACE_S = 10
STREAM_PIECES = 20
PIECE_S = 0.1


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    yield
    await app.state.http.close()
    print("lifespan ended", flush=True)


app = FastAPI(lifespan=_lifespan)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    body = await request.body()
    async with request.app.state.http.post(os.environ["BENCH_UPSTREAM"] + "/chat/completions", data=body) as answer:
        return Response(await answer.read(), media_type="application/json")


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        sent = 0
        try:
            for sent in range(1, STREAM_PIECES + 1):  # noqa: B007 - counted for the line below
                yield b"data: x\n\n"
                await asyncio.sleep(PIECE_S)
        finally:
            print(f"stream settled {sent}", flush=True)

    return StreamingResponse(pieces(), media_type="text/event-stream")


def _uvicorn(port: int) -> None:
    config = uvicorn.Config(
        app, port=port, http="httptools", loop="none", access_log=False, log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    uvloop.run(uvicorn.Server(config).serve())


def _granian(port: int) -> None:
    Granian(
        "dev.bench.proxy:app", port=port, interface=Interfaces.ASGI, loop=Loops.uvloop, http=HTTPModes.http1,
        websockets=False, log_enabled=False, workers_kill_timeout=GRACE_S,
    ).serve()  # fmt: skip


async def _embedded(port: int) -> None:
    server = EmbeddedServer(app, port=port, interface=Interfaces.ASGI, http=HTTPModes.http1, websockets=False,
                            log_enabled=False)  # fmt: skip
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()


if __name__ == "__main__":
    kind, number = sys.argv[1], int(sys.argv[2])
    if kind == "uvicorn":
        _uvicorn(number)
    elif kind == "granian":
        _granian(number)
    else:
        uvloop.run(_embedded(number))
