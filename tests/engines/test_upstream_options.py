"""Options of an upstream model: strict, and never a place for a secret."""

from typing import Any

import pytest

from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import InvalidRequest, Unavailable
from dayspring.engines.upstream.engine import engine

TARGET = {"url": "https://api.example.com/v1", "model": "big"}


def test_the_least_options_pass() -> None:
    engine.check_options({"targets": [TARGET]})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "targets"),
        ({"targets": []}, "targets"),
        ({"targets": [TARGET], "surprise": 1}, "surprise"),
        ({"targets": [{**TARGET, "api_key": "sk-1"}]}, "api_key"),
        ({"targets": [{"url": "https://a.example/v1"}]}, "model"),
        ({"targets": [{**TARGET, "idle_timeout_s": 0}]}, "idle_timeout_s"),
        ({"targets": [{**TARGET, "idle_timeout_s": "5"}]}, "idle_timeout_s"),
        ({"targets": [{**TARGET, "url": "ftp://a.example/v1"}]}, "https://host/v1"),
        ({"targets": [{**TARGET, "url": "api.example.com"}]}, "https://host/v1"),
        ({"targets": [{**TARGET, "url": "https://a.example:99999/v1"}]}, "https://host/v1"),
        ({"targets": [{**TARGET, "url": "https://a.example/v1?key=1"}]}, "query"),
        ({"targets": [TARGET, TARGET]}, "its own 'name'"),
        ({"targets": [{**TARGET, "headers": {"Host": "b"}}]}, "Host"),
        ({"targets": [{**TARGET, "headers": {"X-A": "a\r\nX-B: b"}}]}, "X-A"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        engine.check_options(options)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://user:hunter2@a.example/v1"},
        {"headers": {"Authorization": "Bearer hunter2"}},
        {"headers": {"X-Api-Key": "hunter2"}},
        {"headers": {"cookie": "hunter2"}},
    ],
)
def test_a_secret_in_the_options_is_refused_without_repeating_it(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="DAYSPRING_UPSTREAM_KEYS") as refused:
        engine.check_options({"targets": [{**TARGET, **change}]})
    assert "hunter2" not in refused.value.message


async def test_a_key_that_no_header_can_carry_is_refused_without_repeating_it() -> None:
    model = Model("m", "upstream", (Ability.CHAT,), options={"targets": [TARGET]})
    secrets = {"api.example.com": "sk\nhunter2"}
    with pytest.raises(Unavailable, match=r"api\.example\.com") as refused:
        await engine.session(model, Device("cpu", "cpu"), LoadOptions(secrets=secrets))
    assert "hunter2" not in refused.value.message
