"""Raw bytes to a server and back, for tests of what HTTP clients never send."""

import asyncio
import ssl

import orjson

__all__ = ["Reply", "exchange", "read_reply"]


class Reply:
    """One answer off the wire."""

    def __init__(self, head: bytes, body: bytes) -> None:
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        pairs = (line.partition(": ") for line in lines if line)
        self.headers = {name.lower(): value for name, _, value in pairs}
        self.body = body

    @property
    def code(self) -> str:
        """The error's code; the answer must have the one error shape."""
        error = orjson.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        found: str = error["code"]
        return found


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """The next answer with a Content-Length. Raises IncompleteReadError when the connection ends before it."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = Reply(head, b"")
    found.body = await reader.readexactly(int(found.headers.get("content-length", 0)))
    return found


async def exchange(port: int, *pieces: bytes, tls: ssl.SSLContext | None = None) -> tuple[Reply, bool]:
    """The answer to these bytes, and whether the server closed the connection after it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        reply = await read_reply(reader)
        try:
            async with asyncio.timeout(10 if reply.headers.get("connection") == "close" else 0.3):
                return reply, await reader.read(1) == b""
        except TimeoutError:
            return reply, False
    except ConnectionResetError:
        raise AssertionError("the connection was cut without an answer") from None
    finally:
        writer.close()
