"""A tiny model with eyes in a real worker: a picture reaches it and is counted, or is refused by name."""

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from llamacpp_models import described, running
from PIL import Image

from dayspring.compute.service import Compute
from dayspring.contracts.events import Usage
from dayspring.contracts.models import Ability, Modality, Model
from dayspring.contracts.tasks import ChatTask, Sampling
from dayspring.core.errors import InvalidRequest, UnsupportedParameter
from dayspring.testing.contract import EngineContract, answers, collect
from tiny_models import PICTURE_TOKENS, TinyText, png, write_eyes, write_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

RED, BLUE = png((255, 0, 0)), png((0, 0, 255))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Compute]:
    async with running(tmp_path_factory.mktemp("home"), slots=3, threads=1) as compute:
        yield compute


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tiny")
    write_eyes(folder / "mmproj-tiny.gguf")
    plain = described(write_text(folder / "tiny.gguf", TinyText()), "tiny", (Ability.CHAT, Ability.COMPLETION))
    facts = {**plain.metadata, "projector_file": "mmproj-tiny.gguf"}
    return msgspec.structs.replace(
        plain, reads=(Modality.IMAGE,), metadata=facts, picture_tokens=PICTURE_TOKENS, options={"n_batch": 16}
    )


def look(*pictures: bytes, detail: str = "auto", scope: str = "", **sampling: object) -> ChatTask:
    content: list[dict[str, object]] = [{"type": "text", "text": "What is it?"}]
    for picture in pictures:
        url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url, "detail": detail}})
    drawn = Sampling(**{"temperature": 0.0, "seed": 1, "max_tokens": 12, **sampling})  # type: ignore[arg-type]
    return ChatTask(({"role": "user", "content": content},), drawn, cache_scope=scope)


class TestSeeing(EngineContract):
    long_words = 150

    @pytest.fixture
    def compute(self, workers: Compute) -> Compute:
        return workers

    @pytest.fixture
    def model(self, seeing: Model) -> Model:
        return seeing


async def test_another_picture_gives_another_answer_and_the_same_one_the_same(workers: Compute, seeing: Model) -> None:
    told = [answers(await collect(workers, seeing, look(picture)))[0] for picture in (RED, BLUE, RED)]
    blind = answers(await collect(workers, seeing, look()))[0]
    assert told[0] == told[2]
    assert len({told[0], told[1], blind}) == 3


async def test_a_pictures_tokens_are_counted_and_billed(workers: Compute, seeing: Model) -> None:
    used = [(await collect(workers, seeing, look(*pictures)))[-1] for pictures in ((), (RED,), (RED, BLUE))]
    counted = [await workers.count_tokens(seeing, look(*pictures)) for pictures in ((), (RED,), (RED, BLUE))]
    tokens = [usage.input_tokens for usage in used if isinstance(usage, Usage)]
    assert tokens == counted
    assert [tokens[1] - tokens[0], tokens[2] - tokens[1]] == [PICTURE_TOKENS] * 2


async def test_a_picture_that_came_before_is_found_again_in_its_own_project_only(
    workers: Compute, seeing: Model
) -> None:
    picture = png((7, 7, 7))
    found = []
    for scope in ("project-a", "project-a", "project-b"):
        usage = (await collect(workers, seeing, look(picture, scope=scope)))[-1]
        assert isinstance(usage, Usage)
        found.append((usage.cached_tokens, usage.input_tokens))
    assert [cached for cached, _ in found] == [0, found[0][1] - 1, 0]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
async def test_every_format_reaches_the_model(workers: Compute, seeing: Model, kind: str) -> None:
    packed = io.BytesIO()
    Image.open(io.BytesIO(RED)).save(packed, kind)
    usage = (await collect(workers, seeing, look(packed.getvalue())))[-1]
    blind = (await collect(workers, seeing, look()))[-1]
    assert isinstance(usage, Usage)
    assert isinstance(blind, Usage)
    assert usage.input_tokens == blind.input_tokens + PICTURE_TOKENS


async def test_a_damaged_picture_is_refused_and_the_next_request_answered(workers: Compute, seeing: Model) -> None:
    with pytest.raises(InvalidRequest, match="damaged") as caught:
        await collect(workers, seeing, look(RED[:60] + b"\0" * 40))
    assert caught.value.param == "messages.0.content.1.image_url"
    assert answers(await collect(workers, seeing, look(RED)))


async def test_a_model_without_eyes_refuses_a_picture(workers: Compute, seeing: Model, tmp_path: Path) -> None:
    blind = described(write_text(tmp_path / "blind.gguf", TinyText()), "blind", (Ability.CHAT,))
    with pytest.raises(UnsupportedParameter, match="reads no pictures"):
        await collect(workers, blind, look(RED))
