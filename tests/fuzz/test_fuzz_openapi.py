"""Every operation of the OpenAPI document, with requests that fit it and requests that do not, under five keys.

What holds for every answer: no fault of the server's, and an error has the one shape. `make soak` asks more of each
operation (DAYSPRING_SOAK_FUZZ, 200 by default); here it is a small number, the same requests in every run.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

from dayspring.accounts.service import Accounts, KeyRequest
from dayspring.core.settings import Settings
from dayspring.server.house import House
from dayspring.testing.clock import FakeClock
from live import LiveServer, echo_model

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "reference" / "openapi.json").read_text(encoding="utf-8"))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {result.ok().label: result.ok() for result in SCHEMA.get_all_operations()}
KEYS = ("administrator", "member", "stranger", "expired", "nobody")
FEW, MANY = 6, int(os.environ.get("DAYSPRING_SOAK_FUZZ", "200"))
ANSWER_S = 20
"""Longest wait for the next bytes of an answer."""
CLOSES = {"worker_died", "unavailable", "out_of_memory", "upstream_failed"}
"""Codes that answer with 5xx and are no fault: what was asked for is not there."""


class Served:
    """A running server and the headers of each kind of caller."""

    def __init__(self, url: str, tokens: dict[str, str]) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()} | {"nobody": {}}


async def keys(home: Path, admin: str) -> dict[str, str]:
    """One token of each kind; the expired one was made by a clock of long ago."""
    with House.open(Settings(home=home)) as opened:
        made = {"administrator": admin, "member": (await opened.accounts.create_key(KeyRequest(name="m"))).token}
        other = await opened.accounts.create_project("stranger")
        made["stranger"] = (await opened.accounts.create_key(KeyRequest(name="s", project_id=other.id))).token
        long_ago = Accounts(opened.db, FakeClock(10**18))
        made["expired"] = (await long_ago.create_key(KeyRequest(name="e", expires_at_ns=10**18 + 1))).token
        return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = LiveServer(tmp_path_factory.mktemp("fuzz"))

    async def begin() -> dict[str, str]:
        tokens = await keys(server.home, await server.prepare(echo_model(), echo_model("other")))
        await server.start()
        return tokens

    tokens = asyncio.run(begin())
    yield Served(server.url, tokens)
    asyncio.run(server.stop())


def check(case: Any, answer: requests.Response) -> None:
    """The one shape, and no fault of ours."""
    where = f"{case.method} {answer.url} -> {answer.status_code} {answer.text[:500]}"
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"].startswith("application/json"), where
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}, where
    assert error["message"], where
    assert answer.status_code < 500 or error["code"] in CLOSES, where
    assert "Traceback" not in answer.text, where


def play(label: str, served: Served, examples: int) -> None:
    """The same requests under each key."""
    operation = OPERATIONS[label]
    needs_key = bool(operation.definition.raw.get("security"))
    wanted = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=GenerationMode.NEGATIVE
    )

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=wanted)
    def ask(case: Any) -> None:
        case.headers = {name: each for name, each in (case.headers or {}).items() if name.lower() != "authorization"}
        for kind in KEYS:
            request = case.as_transport_kwargs(base_url=served.url, headers=served.headers[kind])
            answer = served.session.request(**request, timeout=ANSWER_S)
            check(case, answer)
            if kind in ("expired", "nobody") and needs_key:
                assert answer.status_code in (401, 404, 405, 413, 414), (case.method, answer.url, answer.text[:300])

    ask()


@pytest.mark.parametrize("label", OPERATIONS)
def test_no_request_gets_a_fault_or_another_shape(label: str, served: Served) -> None:
    play(label, served, FEW)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_request_of_many_gets_a_fault_or_another_shape(label: str, served: Served) -> None:
    play(label, served, MANY)
