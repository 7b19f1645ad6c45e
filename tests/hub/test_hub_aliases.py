"""Aliases: chains, loops, collisions with models, and what a name leads to as models come and go."""

from itertools import pairwise
from pathlib import Path

import pytest
from hub_files import gguf
from hub_kit import MakeHub
from hypothesis import given
from hypothesis import strategies as st

from dayspring.contracts.models import Model
from dayspring.core.errors import Conflict, InvalidRequest, Malformed, NotFound
from dayspring.hub.aliases import MAX_STEPS, MAX_TARGETS, routes
from dayspring.hub.service import Hub
from dayspring.store.aliases import Alias


@pytest.fixture
async def hub(make_hub: MakeHub, tmp_path: Path) -> Hub:
    """With models a, b and c."""
    hub = make_hub(model_licences="any-recorded")
    for name in "abc":
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(gguf({"general.name": name}))
        await hub.add(await hub.plan(f"file:{file}"))
    return hub


async def ways(hub: Hub, name: str) -> list[str]:
    return [(await hub.get(name)).id, *(model.id for model in hub.fallbacks(name))]


async def test_an_alias_leads_to_its_target_and_then_its_fallbacks(hub: Hub) -> None:
    await hub.set_alias("best", ("a", "b"))
    assert await ways(hub, "best") == ["a", "b"]
    assert await ways(hub, "a") == ["a"]
    await hub.set_alias("best", ("c",))
    assert await ways(hub, "best") == ["c"]
    (alias,) = await hub.aliases()
    assert alias.created_at <= alias.updated_at
    await hub.remove_alias("best")
    with pytest.raises(NotFound):
        await hub.get("best")
    with pytest.raises(NotFound, match="alias"):
        await hub.remove_alias("best")


async def test_chains_are_followed_and_each_model_is_tried_once(hub: Hub) -> None:
    await hub.set_alias("cheap", ("a", "b"))
    await hub.set_alias("chat", ("cheap", "c", "a"))
    assert await ways(hub, "chat") == ["a", "b", "c"]


async def test_a_model_that_goes_is_passed_over_and_taken_again_when_it_comes(hub: Hub, tmp_path: Path) -> None:
    await hub.set_alias("best", ("a", "b"))
    await hub.remove("a")
    assert await ways(hub, "best") == ["b"]
    await hub.remove("b")
    with pytest.raises(NotFound):
        await hub.get("best")
    await hub.add(await hub.plan(f"file:{tmp_path / 'a.gguf'}"))
    assert await ways(hub, "best") == ["a"]


async def test_loops_are_refused_when_they_would_be_made(hub: Hub) -> None:
    with pytest.raises(Conflict, match="back to itself"):
        await hub.set_alias("x", ("x",))
    await hub.set_alias("x", ("a",))
    await hub.set_alias("y", ("x",))
    with pytest.raises(Conflict, match="back to itself"):
        await hub.set_alias("x", ("b", "y"))
    assert await ways(hub, "y") == ["a"]


async def test_a_chain_is_bounded_also_from_above(hub: Hub) -> None:
    names = [f"n{index}" for index in range(MAX_STEPS)]
    await hub.set_alias(names[0], ("a",))
    for below, name in pairwise(names):
        await hub.set_alias(name, (below,))
    assert await ways(hub, names[-1]) == ["a"]
    with pytest.raises(Conflict, match="over 8 aliases"):
        await hub.set_alias("one-more", (names[-1],))
    # Making the bottom longer would lengthen every chain above it.
    await hub.set_alias("bottom", ("b",))
    with pytest.raises(Conflict, match="over 8 aliases"):
        await hub.set_alias(names[0], ("bottom",))


async def test_a_name_is_a_model_or_an_alias_never_both(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="model 'a'"):
        await hub.set_alias("a", ("b",))
    await hub.set_alias("best", ("a",))
    plan = await hub.plan(f"file:{tmp_path / 'a.gguf'}", "best")
    with pytest.raises(Conflict, match="alias 'best'"):
        await hub.add(plan)


async def test_faulty_aliases_are_refused(hub: Hub) -> None:
    with pytest.raises(NotFound, match="'gone'"):
        await hub.set_alias("x", ("a", "gone"))
    with pytest.raises(InvalidRequest):
        await hub.set_alias("x", ())
    with pytest.raises(InvalidRequest):
        await hub.set_alias("x", ("a", "a"))
    with pytest.raises(Malformed):
        await hub.set_alias("../x", ("a",))
    with pytest.raises(Malformed):
        await hub.set_alias("x" * 129, ("a",))


NAMES = st.sampled_from(["m1", "m2", "x", "y", "z", "gone"])


@given(
    st.lists(
        st.builds(Alias, st.sampled_from(["x", "y", "z", "m1"]), st.lists(NAMES, min_size=1, max_size=4).map(tuple)),
        max_size=4,
        unique_by=lambda alias: alias.name,
    )
)
def test_whatever_the_rows_say_a_way_ends_and_names_models_once(aliases: list[Alias]) -> None:
    models = {name: Model(id=name, engine="e", abilities=()) for name in ("m1", "m2")}
    for name, way in routes(aliases, models).items():
        assert name not in models, "a model keeps its name"
        ids = [model.id for model in way]
        assert 1 <= len(ids) <= MAX_TARGETS
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(models)


def test_layers_of_aliases_that_all_lead_on_are_looked_at_once_each() -> None:
    layers = [[f"n{layer}-{each}" for each in range(MAX_TARGETS)] for layer in range(MAX_STEPS)]
    rows = [Alias(name, tuple(below), 0, 0) for upper, below in pairwise(layers) for name in upper]
    rows += [Alias(name, ("a", "b"), 0, 0) for name in layers[-1]]
    found = routes(rows, {name: Model(name, "echo", ()) for name in "ab"})
    assert [model.id for model in found[layers[0][0]]] == ["a", "b"]


async def test_layers_of_aliases_are_made_in_little_time(hub: Hub) -> None:
    below: tuple[str, ...] = ("a", "b", "c")
    for layer in range(MAX_STEPS):
        names = tuple(f"n{layer}-{each}" for each in range(MAX_TARGETS))
        for name in names:
            await hub.set_alias(name, below)
        below = names
    assert await ways(hub, below[0]) == ["a", "b", "c"]
    with pytest.raises(Conflict, match="over"):
        await hub.set_alias("top", below)
