"""`upstream:` sources: a model of an OpenAI-compatible service. Nothing is fetched but, if it answers, its list."""

import ipaddress
import json
from urllib.parse import urlsplit

from dayspring.core.errors import DayspringError, Refused
from dayspring.core.settings import Settings
from dayspring.hub.plan import Found
from dayspring.hub.sources.address import Address
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["find_upstream"]

_MAX_LIST_BYTES = 4 << 20


async def find_upstream(fetcher: Fetcher, settings: Settings, address: Address) -> Found:
    """Raises Refused for a public service without encryption: its key would travel in the clear."""
    parts = urlsplit(address.name)
    host = parts.hostname or ""
    if parts.scheme != "https" and not _is_private(host):
        raise Refused(
            file=host, rule="an upstream on the internet is asked over HTTPS only", remedy="Use an https:// address."
        )
    warnings = await _probe(fetcher, settings, address, host)
    # A service's list does not say what a model is for; an operator who knows better says so in the plan.
    abilities = _guessed(address.inside.lower())
    facts = {"abilities": abilities, "options": {"targets": [{"url": address.name, "model": address.inside}]}}
    pinned = f"upstream:{address.name}#{address.inside}"
    return Found(address.inside, pinned, (), warnings=warnings, owned_by=host, facts=facts)


def _guessed(model: str) -> list[str]:
    if "rerank" in model:
        return ["rerank"]
    return ["embedding"] if "embed" in model else ["chat", "completion"]


async def _probe(fetcher: Fetcher, settings: Settings, address: Address, host: str) -> tuple[str, ...]:
    """What a look at the service's list tells. It never refuses: the service may be down today."""
    key = settings.upstream_keys.get(host) or settings.upstream_keys.get(urlsplit(address.name).netloc)
    secret = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    notes = () if key else (f"There is no key for {host!r} in DAYSPRING_UPSTREAM_KEYS.",)
    try:
        async with fetcher.open(Request(f"{address.name}/models", {}, secret, operator=True)) as answer:
            listed = {entry["id"] for entry in json.loads(await answer.document(_MAX_LIST_BYTES))["data"]}
    except DayspringError as error:
        return (*notes, f"The service was asked for its models and did not give them: {error.message}")
    except (ValueError, KeyError, TypeError, RecursionError):
        return (*notes, "The service was asked for its models and gave no list of them.")
    if address.inside not in listed:
        return (*notes, f"The service does not list {address.inside!r}.")
    return notes


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".lan"))
