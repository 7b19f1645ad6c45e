"""Chat through Dayspring against the same model straight in xllamacpp's HTTP server: tokens/s and time to first token.

Same slots, context memory and threads, same client, same prompts (each new, so that no cache helps either), greedy, so
that both do the same work. Rounds are interleaved; a ratio is the median of the ratios of pairs.
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
from dev.bench.ours import dayspring, wait_ready
from dev.bench.processes import free_port, running
from dev.bench.record import median, print_table, write
from dev.fetch_test_models import cache_folder

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONTEXT_TOKENS = 8192
_QUESTIONS = ("the sea", "a train", "old bread", "the moon", "a violin", "winter", "a bridge", "tea")


class Answered(NamedTuple):
    first_token_s: float
    tokens: int


def main(words: list[str] | None = None) -> None:
    chosen = _arguments(words)
    model = (cache_folder() / MODEL_FILE).resolve()
    if not model.exists():
        raise SystemExit(f"{MODEL_FILE} is not in the test cache. Run: python dev/fetch_test_models.py")
    asyncio.run(_measure(chosen, model))


async def _measure(chosen: argparse.Namespace, model: Path) -> None:
    port, context = free_port(), _CONTEXT_TOKENS * chosen.contexts
    straight = [str(model), str(port), str(chosen.slots), str(context), str(chosen.threads)]
    settings = {
        "DAYSPRING_SLOTS": str(chosen.slots),
        "DAYSPRING_KV_CONTEXTS": str(chosen.contexts),
        "DAYSPRING_THREADS": str(chosen.threads),
    }
    add = ("models", "add", f"file:{model}", "--id", "chat", "--licence", "Apache-2.0", "--yes")
    rounds: list[dict[str, Any]] = []
    with (
        running([sys.executable, "-m", "dev.bench.llama_server", *straight], port),
        dayspring(settings, add) as (url, key, _),
    ):
        wait_ready(f"http://127.0.0.1:{port}/health", 120)
        sides = {"straight": (f"http://127.0.0.1:{port}/v1", "none"), "dayspring": (url, key)}
        async with aiohttp.ClientSession() as http:
            for side, (base, token) in sides.items():
                await _ask(http, base, token, f"Warm up {side}.", 8)
            for number in range(chosen.rounds):
                for streams in (1, chosen.slots):
                    for side in sorted(sides, reverse=bool(number % 2)):
                        found = await _round(http, *sides[side], number, streams, chosen.tokens)
                        rounds.append({"round": number, "side": side, "streams": streams, **found})
    _report(rounds, chosen)


async def _round(
    http: aiohttp.ClientSession, url: str, key: str, number: int, streams: int, tokens: int
) -> dict[str, float]:
    prompts = [
        f"Story {number}-{streams}-{i}: tell me about {_QUESTIONS[i % len(_QUESTIONS)]}." for i in range(streams)
    ]
    began = time.perf_counter()
    answers = await asyncio.gather(*(_ask(http, url, key, prompt, tokens) for prompt in prompts))
    took = time.perf_counter() - began
    return {
        "tokens_s": round(sum(answer.tokens for answer in answers) / took, 2),
        "first_token_ms": round(1e3 * sum(answer.first_token_s for answer in answers) / streams, 2),
    }


async def _ask(http: aiohttp.ClientSession, url: str, key: str, prompt: str, tokens: int) -> Answered:
    """One streamed chat, its tokens as the server's usage counts them."""
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = time.perf_counter()
    first = counted = 0.0
    headers = {"Authorization": f"Bearer {key}"}
    async with http.post(f"{url}/chat/completions", json=body, headers=headers) as answer:
        if answer.status != 200:
            raise SystemExit(f"{url} answered with {answer.status}: {await answer.text()}")
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            piece = orjson.loads(line[6:])
            if not first and any(choice.get("delta", {}).get("content") for choice in piece["choices"]):
                first = time.perf_counter() - began
            if piece.get("usage"):
                counted = piece["usage"]["completion_tokens"]
    if not first or not counted:
        raise SystemExit(f"{url} answered without tokens; a figure of that would mean nothing")
    return Answered(first, int(counted))


def _report(rounds: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    medians: dict[str, dict[str, float]] = {}
    for streams in (1, chosen.slots):
        ours, theirs = (
            [one for one in rounds if (one["side"], one["streams"]) == (side, streams)]
            for side in ("dayspring", "straight")
        )
        pairs = list(zip(ours, theirs, strict=True))
        medians[str(streams)] = {
            "dayspring_tokens_s": median([one["tokens_s"] for one in ours]),
            "straight_tokens_s": median([one["tokens_s"] for one in theirs]),
            "ratio": median([a["tokens_s"] / b["tokens_s"] for a, b in pairs]),
            "dayspring_first_token_ms": median([one["first_token_ms"] for one in ours]),
            "straight_first_token_ms": median([one["first_token_ms"] for one in theirs]),
            "added_first_token_ms": median([a["first_token_ms"] - b["first_token_ms"] for a, b in pairs]),
        }
    print_table(("streams", *medians["1"]), [(streams, *row.values()) for streams, row in medians.items()])
    write(
        "chat",
        {"medians": medians, "rounds": rounds},
        versions=("dayspring", "xllamacpp", "uvicorn", "aiohttp"),
        setup={**vars(chosen), "model": MODEL_FILE},
    )


def _arguments(words: list[str] | None) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python -m dev.bench chat", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="of each answer, at most")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--contexts", type=int, default=4, help="whole contexts the key-value memory holds")
    parser.add_argument("--threads", type=int, default=cores)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
