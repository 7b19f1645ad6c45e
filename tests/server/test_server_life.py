"""The first start, a start that cannot be, the stop, and what the log may say."""

import asyncio
import json
import logging
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from server_house import CHAT, served

from dayspring.accounts.keys import new_token
from dayspring.accounts.organizations import currency_of
from dayspring.core.errors import Conflict, Unavailable
from dayspring.core.settings import Settings
from dayspring.hub.plan import Progress
from dayspring.ledger.report_values import RequestQuery
from dayspring.server.app import create_app
from dayspring.server.background import Background
from dayspring.server.house import House, lock_home
from dayspring.server.logs import JsonLines, TextLines
from dayspring.server.readiness import Readiness
from live import echo_model


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if "admin.key" in path.name)


async def key_works(house: House) -> bool:
    token = (house.settings.home / "admin.key").read_text().strip()
    return (await house.accounts.authenticate(token)).is_admin


async def test_the_first_start_leaves_one_key_for_its_owner(tmp_path: Path) -> None:
    with House.open(Settings(home=tmp_path)) as house:
        assert await house.first_start() is not None
        assert await house.first_start() is None
        assert names(tmp_path) == ["admin.key"]
        assert stat.S_IMODE((tmp_path / "admin.key").stat().st_mode) == 0o600
        assert await key_works(house)


async def test_a_key_whose_start_died_before_naming_it_is_found_by_the_next(tmp_path: Path) -> None:
    token = new_token()
    with House.open(Settings(home=tmp_path)) as house:
        (tmp_path / ".admin.key.1").write_text(token + "\n")
        assert await house.accounts.bootstrap("USD", token) is not None
    (tmp_path / ".admin.key.2").write_text(new_token() + "\n")
    (tmp_path / ".admin.key.3").write_bytes(b"\xff half a tok")
    with House.open(Settings(home=tmp_path)) as house:
        assert await house.first_start() is None
        assert names(tmp_path) == ["admin.key"]
        assert (tmp_path / "admin.key").read_text().strip() == token
        assert await key_works(house)


async def test_a_start_that_died_before_it_claimed_leaves_nothing(tmp_path: Path) -> None:
    with House.open(Settings(home=tmp_path)) as house:
        (tmp_path / ".admin.key.1").write_text(new_token() + "\n")
        assert await house.first_start() is not None
        assert names(tmp_path) == ["admin.key"]
        assert await key_works(house)


async def test_of_many_first_starts_one_wins_and_its_key_is_the_one(tmp_path: Path) -> None:
    with House.open(Settings(home=tmp_path)) as one, House.open(Settings(home=tmp_path)) as other:
        made = await asyncio.gather(*(house.first_start() for house in (one, other) * 4))
        assert len([key for key in made if key is not None]) == 1
        assert names(tmp_path) == ["admin.key"]
        assert await key_works(one)


async def test_another_currency_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with House.open(Settings(home=tmp_path)) as house:
        await house.first_start()
    with House.open(Settings(home=tmp_path, currency="EUR")) as house, pytest.raises(Conflict, match="CURRENCY=USD"):
        await house.first_start()
    assert names(tmp_path) == ["admin.key"]


async def test_a_start_that_fails_raises_its_reason_and_lets_go_of_the_folder(tmp_path: Path) -> None:
    with House.open(Settings(home=tmp_path)) as house:
        await house.first_start()
    house = House.open(Settings(home=tmp_path, currency="EUR", default_pack=False))
    app = create_app(house)
    with pytest.raises(Conflict):
        async with app.router.lifespan_context(app):
            raise AssertionError("it started")
    with pytest.raises(Unavailable):  # closed
        await house.accounts.create_project("x")
    lock_home(tmp_path).close()


async def test_a_second_server_is_refused_by_the_folders_lock(tmp_path: Path) -> None:
    async with served(tmp_path):
        with House.open(Settings(home=tmp_path, default_pack=False)) as house:
            app = create_app(house)
            with pytest.raises(Conflict, match="Another server"):
                async with app.router.lifespan_context(app):
                    raise AssertionError("it started")


async def test_a_stop_settles_what_is_cut_before_the_database_closes(tmp_path: Path) -> None:
    async with served(tmp_path, echo_model("slow", delay_s=0.01)) as house:
        words = " ".join(["word"] * 300)
        body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": words}]}
        visit = house.visiting(CHAT, orjson.dumps(body))
        running = asyncio.create_task(visit.run())
        while len(visit.answer.pieces) < 5:
            visit.sent.clear()
            await visit.sent.wait()
        running.cancel()  # as the server does when the grace is over, and the app's life ends at once
    assert running.done()
    with House.open(Settings(home=tmp_path)) as house_again:
        made = await house_again.accounts.authenticate((tmp_path / "admin.key").read_text().strip())
        (row,) = (await house_again.reports.list_requests(made, RequestQuery())).data
        assert (row.status, await house_again.ledger.verify()) == ("cancelled", [])
        assert (await house_again.accounts.budget(made.key_id)).held_nanos == 0


class Hub:
    """Fails to add the default models."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def ensure_default_pack(self, progress: Any) -> None:
        progress(Progress("download", "a-model", "a-file", 1, 2))
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, []),
        (Unavailable("No network", "Connect."), ["The default models could not be added: No network. Connect."]),
        (KeyError("a secret"), ["The default models could not be added; the log says why."]),
    ],
)
async def test_the_server_is_ready_though_the_default_models_failed(error: Exception | None, said: list[str]) -> None:
    readiness = Readiness()
    house: Any = SimpleNamespace(hub=Hub(error))
    unused: Any = None
    background = Background(house, unused, unused, readiness, unused)
    readiness.begin("default models", "checking")
    await background._fetch_default_pack()
    assert readiness.waiting() == {}
    assert readiness.notes() == said


@pytest.mark.parametrize("error", [Unavailable("No database", "Wait."), RuntimeError("told to fail")])
async def test_a_background_step_that_fails_is_tried_again(error: Exception) -> None:
    tries = asyncio.Queue[int]()
    unused: Any = None

    async def step() -> None:
        tries.put_nowait(1)
        raise error

    task = asyncio.create_task(Background(unused, unused, unused, Readiness(), unused)._every(0, step))
    for _ in range(3):
        await tries.get()
    task.cancel()
    await asyncio.wait((task,))


KEY = new_token()
SECRETS = [
    (KEY, KEY[8:]),
    (f"first line\n{KEY}", KEY[8:]),
    (f"x={KEY}&y", KEY[8:]),
    (f'{{"k":"{KEY}"}}', KEY[8:]),
    ("Authorization: Bearer abcdefghij", "cdefghij"),
    ("bearer\tabcdefghij", "cdefghij"),
    ("sk-proj-0123456789abcdef", "0123456789abcdef"),
    ("tab\tsk-0123456789abcdef", "456789abcdef"),
    ("hf_0123456789abcdef", "456789abcdef"),
    ("postgresql+psycopg://me:pass-word@host/name", "pass-word"),
]


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_no_secret_is_logged_wherever_it_stands(formatter: logging.Formatter, text: str, secret: str) -> None:
    def logged(message: str, *arguments: object, **extra: object) -> str:
        record = logging.LogRecord("x", logging.INFO, "f", 1, message, arguments, None)
        vars(record).update(extra)
        return formatter.format(record)

    assert secret not in logged(text)
    assert secret not in logged("%s", text)
    assert secret not in logged("m", reason=text, nested={"deep": [text]})
    try:
        raise ValueError(text)
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "m", (), (ValueError, error, error.__traceback__))
        assert secret not in formatter.format(record)


def test_what_is_no_secret_is_logged_as_it_is() -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "risk-assessment of words-and-other-long-things", (), None)
    line = json.loads(JsonLines().format(record))
    assert line["message"] == "risk-assessment of words-and-other-long-things"


async def test_a_revoked_key_is_refused_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as house:
        principal, key = await house.new_key()
        assert (await house.ask("GET", "/v1/models", key=key)).status == 200
        await house.house.accounts.revoke_key(principal.key_id)
        assert (await house.ask("GET", "/v1/models", key=key)).status == 401


async def test_a_data_folder_is_not_started_with_another_database(tmp_path: Path) -> None:
    """Its stored files would have no rows there, and be let go of."""
    with House.open(Settings(home=tmp_path)) as house:
        await house.first_start()
    key = (tmp_path / "admin.key").read_text()
    other = f"sqlite:///{tmp_path / 'other.db'}"
    for _ in range(2):
        with House.open(Settings(home=tmp_path, database_url=other)) as house:
            with pytest.raises(Conflict, match="belongs to another database"):
                await house.first_start()
            assert await house.db.read(currency_of) is None, "nothing was made"
    assert (tmp_path / "admin.key").read_text() == key
    with House.open(Settings(home=tmp_path)) as house:
        assert await house.first_start() is None
    (tmp_path / "installation").unlink()
    with House.open(Settings(home=tmp_path, database_url=other)) as house:
        assert await house.first_start() is not None
