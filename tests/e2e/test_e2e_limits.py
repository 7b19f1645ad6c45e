"""OpenAI's own client sets limits, budgets, alerts and webhooks, and waits by itself where a limit was met."""

import asyncio
import time
from collections.abc import AsyncIterator

import openai
import pytest

from live import Started


@pytest.fixture
async def client(echo_server: Started) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=echo_server.base_url, api_key=echo_server.key, admin_api_key=echo_server.key, max_retries=0
    ) as made:
        yield made


async def test_the_client_sets_a_projects_limits_budget_and_alerts(client: openai.AsyncOpenAI) -> None:
    organization = client.admin.organization
    project = (await organization.projects.create(name="limited")).id
    (limit,) = [each async for each in organization.projects.rate_limits.list_rate_limits(project)]
    changed = await organization.projects.rate_limits.update_rate_limit(
        limit.id, project_id=project, max_requests_per_1_minute=6000, max_tokens_per_1_minute=10**9
    )
    assert (changed.max_requests_per_1_minute, changed.object) == (6000, "project.rate_limit")
    budget = await organization.projects.spend_limit.update(
        project, currency="USD", interval="month", threshold_amount=10_000
    )
    assert (budget.threshold_amount, budget.enforcement.status) == (10_000, "inactive")
    assert (await organization.projects.spend_limit.retrieve(project)).threshold_amount == 10_000
    with pytest.raises(openai.BadRequestError, match="sends no mail"):
        await organization.projects.spend_alerts.create(
            project, currency="USD", interval="month", threshold_amount=8000,
            notification_channel={"type": "email", "recipients": ["a@example.org"]},
        )  # fmt: skip
    alert = await organization.projects.spend_alerts.create(
        project, currency="USD", interval="month", threshold_amount=8000,
        notification_channel={"type": "webhook", "recipients": []},  # type: ignore[typeddict-item]
    )  # fmt: skip
    assert [each.id async for each in organization.projects.spend_alerts.list(project)] == [alert.id]
    assert (await organization.projects.spend_alerts.delete(alert.id, project_id=project)).deleted
    assert (await organization.projects.spend_limit.delete(project)).deleted


async def test_the_client_makes_a_webhook_endpoint(client: openai.AsyncOpenAI) -> None:
    made = await client.webhooks.create(
        name="alerts", url="https://example.org/hook", event_types=["spend_alert.raised"]  # type: ignore[list-item]
    )  # fmt: skip
    assert made.signing_secret.startswith("whsec_")
    assert made.id in [each.id async for each in client.webhooks.list()]
    rotated = await client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made.signing_secret
    assert (await client.webhooks.delete(made.id)).deleted


async def test_the_client_waits_as_long_as_it_is_told_and_then_succeeds(echo_server: Started) -> None:
    key_id, token = await echo_server.server.key()
    echo_server.server.command("limits", "set", key_id, "--requests", "30")
    message = [{"role": "user", "content": "one"}]

    async def ask(client: openai.AsyncOpenAI) -> openai.RateLimitError | None:
        """The refusal, or None for an answer."""
        try:
            await client.chat.completions.create(model="echo", messages=message)  # type: ignore[arg-type]
        except openai.RateLimitError as refused:
            return refused
        return None

    began = time.monotonic()
    async with openai.AsyncOpenAI(base_url=echo_server.base_url, api_key=token, max_retries=0) as impatient:
        assert not any([await ask(impatient) for _ in range(30)])
        more = await asyncio.gather(*(ask(impatient) for _ in range(20)))
    refusals = [refused for refused in more if refused is not None]
    assert refusals
    assert 20 - len(refusals) <= (time.monotonic() - began) / 2 + 1
    assert {refused.code for refused in refusals} == {"rate_limit_exceeded"}
    assert all(int(refused.response.headers["retry-after"]) >= 1 for refused in refusals)
    async with openai.AsyncOpenAI(base_url=echo_server.base_url, api_key=token, max_retries=5) as patient:
        assert await ask(patient) is None
