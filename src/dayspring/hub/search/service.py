"""Searching every hub at once, and judging what is found: terms, size, and whether it would run here.

What holds: one hub that fails hides none of the others; nothing of an answer is believed beyond being shown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from dayspring.contracts.engine import Engine
from dayspring.contracts.models import Model
from dayspring.core.errors import DayspringError, InvalidRequest
from dayspring.core.settings import Settings
from dayspring.hub.machine import memory_limit_bytes
from dayspring.hub.search.civitai import search_civitai
from dayspring.hub.search.huggingface import search_huggingface
from dayspring.hub.search.modelscope import search_modelscope
from dayspring.hub.search.values import HUBS, Fit, Found, Hit, HubName, Seen, hit
from dayspring.net.fetcher import Fetcher

__all__ = ["Searcher"]

MAX_HITS = 100
_MAX_WORDS = 200
_FOUR_BIT = 0.6
"""Bytes a parameter in a 4-bit GGUF, with what is beside the weights."""
_EMBEDDING_TASKS = ("sentence-similarity", "feature-extraction", "sentence-embedding")
_SEARCHES: dict[HubName, Callable[[Fetcher, Settings, str, int], Awaitable[list[Seen]]]] = {
    HubName.HF: search_huggingface,
    HubName.MODELSCOPE: search_modelscope,
    HubName.CIVITAI: search_civitai,
}


class Searcher:
    def __init__(self, fetcher: Fetcher, settings: Settings, engines: Callable[[], Mapping[str, Engine]]) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._engines = engines

    async def search(self, words: str, hubs: Sequence[HubName], limit: int, here: Sequence[Model]) -> Found:
        """See `Hub.search`."""
        words = " ".join(words.split())
        if not words or len(words) > _MAX_WORDS or not words.isprintable():
            raise InvalidRequest(f"Write what to search for, in at most {_MAX_WORDS} characters.", param="query")
        asked = tuple(dict.fromkeys(hubs)) or HUBS
        most = max(1, min(limit, MAX_HITS))
        searches = (_SEARCHES[hub](self._fetcher, self._settings, words, most) for hub in asked)
        answers = await asyncio.gather(*searches, return_exceptions=True)
        hits: list[list[Hit]] = []
        failures: dict[str, str] = {}
        sources = {model.source.partition("#")[0].partition("@")[0] for model in here}
        for hub, answer in zip(asked, answers, strict=True):
            if isinstance(answer, DayspringError):
                failures[hub] = answer.message
            elif isinstance(answer, BaseException):
                raise answer
            else:
                hits.append([self._judge(seen, sources) for seen in answer])
        return Found(tuple(_by_turns(hits)[:most]), failures)

    def _judge(self, seen: Seen, sources: set[str]) -> Hit:
        runnable = {kind for engine in self._engines().values() for kind in engine.formats}
        chosen = next((kind for kind in ("gguf", *seen.formats) if kind in seen.formats and kind in runnable), "")
        return hit(seen, chosen or ", ".join(seen.formats), self._fit(seen, chosen), here=seen.source in sources)

    def _fit(self, seen: Seen, chosen: str) -> Fit:
        if not seen.formats:
            return Fit("unknown", "The hub does not tell its format.")
        if not chosen and "safetensors" in seen.formats and seen.task in _EMBEDDING_TASKS:
            return Fit("unknown", "A BERT sentence embedder is converted; its plan tells whether it is one.")
        if not chosen:
            return Fit("no", f"No installed engine runs {' or '.join(seen.formats)}.")
        limit = memory_limit_bytes(self._settings)
        four_bit = chosen == "gguf" and not seen.size_bytes
        size = int(seen.parameters * _FOUR_BIT) if four_bit else seen.size_bytes
        if not size:
            return Fit("unknown", "The hub does not tell its size.")
        what = f"{'A 4-bit file of it' if four_bit else 'It'} takes about {size >> 20} MiB of {limit >> 20} MiB."
        return Fit("yes" if size <= limit else "no", what)


def _by_turns(lists: list[list[Hit]]) -> list[Hit]:
    """The first of each hub, then the second of each: every hub ranks by its own count of downloads."""
    longest = max((len(each) for each in lists), default=0)
    return [each[index] for index in range(longest) for each in lists if index < len(each)]
