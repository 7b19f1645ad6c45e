"""A real server in a process of its own, on a free port, for end-to-end and soak tests."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import aiohttp

from dayspring.accounts.service import KeyRequest
from dayspring.contracts.models import Ability, Model
from dayspring.core.money import Rate, Unit
from dayspring.core.settings import Settings
from dayspring.ledger.prices import PriceRequest
from dayspring.server.house import House
from dayspring.store.models import add_model

__all__ = ["FLAT_NANOS", "PRICE", "LiveServer", "Started", "echo_model", "free_port"]

FLAT_NANOS = 1_000_000
PRICE = {
    Unit.INPUT_TOKEN: Rate(150_000_000, 1_000_000),
    Unit.CACHED_TOKEN: Rate(75_000_000, 1_000_000),
    Unit.OUTPUT_TOKEN: Rate(600_000_000, 1_000_000),
}
"""0.15, 0.075 and 0.60 a million tokens."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def echo_model(name: str = "echo", **options: Any) -> Model:
    """The test kit's model, as a row of the catalogue."""
    abilities = (Ability.CHAT, Ability.COMPLETION, Ability.EMBEDDING)
    return Model(
        id=name, engine="echo", abilities=abilities, context_tokens=4096, licence="Apache-2.0", options=options
    )


def _spawn(command: list[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, stderr=log, stdout=log)


class LiveServer:
    """`prepare` fills the data folder, `start` waits until /readyz says so, `kill` is -9, `stop` is SIGTERM."""

    def __init__(self, home: Path, *, port: int = 0, **environment: str) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None
        self.start_s = 0.0

    async def prepare(self, *models: Model, price: dict[Unit, Rate] | None = None) -> str:
        """Makes the installation with these models at a price. Returns the administrator's key."""
        with House.open(Settings(home=self.home)) as house:
            await house.first_start()
            for model in models:
                await house.db.write(lambda connection, model=model: add_model(connection, model, []))
                await house.prices.set(PriceRequest(model_id=model.id, rates=PRICE if price is None else price))
        return (self.home / "admin.key").read_text().strip()

    async def key(self, **request: Any) -> tuple[str, str]:
        """A new key's id and secret."""
        with House.open(Settings(home=self.home)) as house:
            made = await house.accounts.create_key(KeyRequest(**{"name": "test", "sees_cost": True, **request}))
            return made.key.id, made.token

    async def register(self, name: str, price: dict[Unit, Rate]) -> None:
        """Adds an echo model at a price, beside a running server."""
        await self.prepare(echo_model(name), price=price)

    async def spent(self, owner_id: str) -> tuple[int, int]:
        """What a key has spent and what is held, in nano-units."""
        with House.open(Settings(home=self.home)) as house:
            budget = await house.accounts.budget(owner_id)
            return budget.spent_nanos, budget.held_nanos

    def command(self, *words: str) -> str:
        """Runs `dayspring ...` on this data folder; its output."""
        environment = {**os.environ, "DAYSPRING_HOME": str(self.home), **self.environment}
        done = subprocess.run(
            [sys.executable, "-m", "dayspring", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def start(self) -> None:
        environment = {
            **os.environ,
            "DAYSPRING_HOME": str(self.home),
            "DAYSPRING_DEFAULT_PACK": "false",
            **self.environment,
        }
        command = [sys.executable, "-m", "dayspring", "serve", "--port", str(self.port), "--home", str(self.home)]
        started = time.monotonic()
        with (self.home / "server.log").open("ab") as log:
            self.process = _spawn(command, environment, log)
        async with aiohttp.ClientSession() as session:
            while True:
                if self.process.poll() is not None:
                    raise RuntimeError("the server ended:\n" + (self.home / "server.log").read_text()[-4000:])
                try:
                    async with session.get(f"{self.url}/readyz", ssl=False) as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.01)  # between two looks at a port that is not open yet
        self.start_s = time.monotonic() - started

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The server's child processes."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def stop(self) -> int:
        """Asks politely; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 60)


class Started:
    """A live server and the administrator's key to it."""

    def __init__(self, server: LiveServer, key: str) -> None:
        self.server = server
        self.key = key
        self.base_url = f"{server.url}/v1"
