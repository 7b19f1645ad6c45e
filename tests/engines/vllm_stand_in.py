"""A stand-in for the program `vllm`: speaks its protocol on the socket it is told, and fails as it is wished.

`stand_in.json` in the model's folder: `health_file` (not well before it exists), `crash` (words to say and end at
once), `group` (tokens in each piece), `die_at` (pieces before it ends by SIGKILL), `stubborn` (ignores SIGTERM),
`child` (starts a process in a session of its own, and notes its number), `wrong` (answers with something else). What it
was started with is noted in `seen.json`. Its model says the last message again, word by word; a word is a token.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from dayspring.testing.echo import words
from dayspring.testing.upstream import FakeUpstream, Reply

CONTEXT_TOKENS = 4000


class StandIn(FakeUpstream):
    def __init__(self, folder: Path, wishes: dict[str, Any]) -> None:
        super().__init__(key=os.environ["VLLM_API_KEY"], context_tokens=CONTEXT_TOKENS)
        self.folder = folder
        self.wishes = wishes
        routes = self.application.router
        routes.add_get("/health", self.health)
        routes.add_get("/v1/models", self.models)
        routes.add_post("/tokenize", self.tokenize)
        routes.add_post("/detokenize", self.detokenize)

    async def health(self, request: web.Request) -> web.Response:
        waits = self.wishes.get("health_file")
        return web.Response(status=503 if waits and not os.path.exists(waits) else 200)  # noqa: ASYNC240, PTH110

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "model", "max_model_len": CONTEXT_TOKENS}]})

    async def tokenize(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        texts = [body["prompt"]] if "prompt" in body else [_text(message["content"]) for message in body["messages"]]
        return web.json_response({"count": sum(len(words(text)) for text in texts), "max_model_len": CONTEXT_TOKENS})

    async def detokenize(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        return web.json_response({"prompt": " ".join(map(str, body["tokens"]))})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.script(Reply(group=self.wishes.get("group", 1)))
        if self.wishes.get("wrong"):
            self._replies.clear()
            self.script(Reply(body=b'data: {"choices": "what?"}\n\n', headers={"Content-Type": "text/event-stream"}))
        answer = super()._serve(request)
        (self.folder / "asked.json").write_bytes(await request.read())
        return await answer

    async def _send(
        self, request: web.Request, reply: Reply, pieces: Any, media: str, length: int | None = None
    ) -> Any:
        if (die_at := self.wishes.get("die_at")) is not None:
            pieces = _cut(pieces, die_at)
        return await super()._send(request, reply, pieces, media, length)


async def _cut(pieces: Any, die_at: int) -> Any:
    async for piece in pieces:
        if die_at == 0:
            await asyncio.sleep(0.05)  # what was written before reaches its reader
            os.kill(os.getpid(), signal.SIGKILL)
        die_at -= 1
        yield piece


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


async def serve(folder: Path, socket: str, wishes: dict[str, Any]) -> None:
    stand_in = StandIn(folder, wishes)
    runner = await stand_in.setup()
    await web.UnixSite(runner, socket).start()
    ended = asyncio.Event()
    if not wishes.get("stubborn"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


def main() -> None:
    arguments = sys.argv[1:]
    folder = Path(arguments[1])
    noted = folder / "stand_in.json"
    wishes = json.loads(noted.read_text()) if noted.exists() else {}
    if wishes.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    seen: dict[str, Any] = {"arguments": arguments, "environment": dict(os.environ), "pid": os.getpid()}
    if wishes.get("child"):
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
        seen["child"] = child.pid
    (folder / "seen.json").write_text(json.dumps(seen))
    if words_said := wishes.get("crash"):
        sys.stdout.write(f"{words_said}\n")
        sys.stdout.flush()
        sys.exit(1)
    asyncio.run(serve(folder, arguments[arguments.index("--uds") + 1], wishes))


if __name__ == "__main__":
    main()
