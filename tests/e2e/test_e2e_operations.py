"""Starting, stopping, looking: what an operator meets."""

import asyncio
import contextlib
import json
import signal
import stat
from pathlib import Path

import aiohttp
import orjson
import pytest

from live import LiveServer, Started, echo_model


async def get(url: str, **options: object) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, **options) as response:
        return response.status, await response.text()


async def test_health_readiness_and_metrics(echo_server: Started) -> None:
    assert await get(echo_server.server.url + "/healthz") == (200, '{"status":"ok"}')
    status, text = await get(echo_server.server.url + "/readyz")
    assert (status, orjson.loads(text)["status"]) == (200, "ready")
    status, text = await get(echo_server.server.url + "/metrics")
    assert status == 200
    assert "dayspring_http_requests_total" in text
    assert echo_server.key not in text


async def test_the_first_page_and_the_reference_need_nothing_from_elsewhere(echo_server: Started) -> None:
    for path in ("/", "/docs"):
        status, text = await get(echo_server.server.url + path)
        assert status == 200
        assert "https://" not in text
        assert "<script" not in text


async def test_no_key_is_ever_logged(echo_server: Started) -> None:
    await get(echo_server.base_url + "/models", headers={"Authorization": f"Bearer {echo_server.key}"})
    await get(echo_server.base_url + "/models", headers={"Authorization": "Bearer ds-" + "y" * 43})
    log = (echo_server.server.home / "server.log").read_text()
    assert echo_server.key not in log
    assert "y" * 43 not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any(line.get("request_id", "").startswith("req_") for line in lines)


def test_the_administrators_key_is_for_its_owner_alone(echo_server: Started) -> None:
    path = echo_server.server.home / "admin.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(echo_server.server.home.stat().st_mode) == 0o700


async def test_a_second_server_on_the_same_data_folder_is_refused(echo_server: Started) -> None:
    second = LiveServer(echo_server.server.home)
    with pytest.raises(RuntimeError, match="Another server uses the data folder"):
        await second.start()


def test_a_taken_port_is_one_plain_sentence(echo_server: Started, tmp_path: Path) -> None:
    other = LiveServer(tmp_path)
    with pytest.raises(AssertionError, match="choose another with --port") as refused:
        other.command("serve", "--port", str(echo_server.server.port))
    assert "Traceback" not in str(refused.value)


async def test_a_polite_stop_lets_a_stream_end_and_settles_it(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    key = await server.prepare(echo_model("slow", delay_s=0.02))
    await server.start()
    body = {
        "model": "slow", "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": " ".join(["word"] * 40)}],
    }  # fmt: skip
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        session.post(f"{server.url}/v1/chat/completions", json=body) as response,
    ):
        lines = []
        async for line in response.content:
            lines.append(line)
            if len(lines) == 4:
                assert server.process is not None
                server.process.send_signal(signal.SIGTERM)
    assert b"[DONE]" in b"".join(lines)
    assert await server.stop() == 0
    (row,) = json.loads(server.command("usage", "--requests", "--json"))
    assert row["status"] == "completed"
    assert row["output_tokens"] == 40


async def test_a_stop_that_runs_out_of_patience_settles_what_was_produced(tmp_path: Path) -> None:
    server = LiveServer(tmp_path, DAYSPRING_SHUTDOWN_GRACE_S="1")
    key = await server.prepare(echo_model("slow", delay_s=0.05))
    await server.start()
    body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": " ".join(["word"] * 400)}]}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        session.post(f"{server.url}/v1/chat/completions", json=body) as response,
    ):
        await response.content.readline()
        stopping = asyncio.create_task(server.stop())
        with contextlib.suppress(aiohttp.ClientError):  # cut, as announced
            await response.read()
        await stopping
    (row,) = json.loads(server.command("usage", "--requests", "--json"))
    assert row["status"] == "cancelled"
    assert 1 <= row["output_tokens"] < 400
    assert row["charged_nanos"] > 0


def test_doctor_finds_nothing_wrong(echo_server: Started) -> None:
    findings = json.loads(echo_server.server.command("doctor", "--json"))
    assert {finding["state"] for finding in findings} <= {"ok", "note"}
    assert any(finding["what"] == "ledger" for finding in findings)


def test_tables_for_people_and_json_for_programs(echo_server: Started) -> None:
    for words in (("keys", "list"), ("models", "list"), ("prices", "list"), ("usage",), ("usage", "--requests")):
        assert echo_server.server.command(*words)
        json.loads(echo_server.server.command(*words, "--json"))
