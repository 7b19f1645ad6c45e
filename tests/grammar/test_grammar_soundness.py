"""Every text that a grammar generates is valid against its schema: real schemas, drawn schemas, patterns, formats."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from grammar_oracle import Generator, Matcher, validator
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from dayspring.core.errors import InvalidRequest, UnsupportedParameter
from dayspring.engines.llamacpp.grammar.compiler import to_grammar
from dayspring.engines.llamacpp.grammar.formats import FORMATS

SCHEMAS = sorted((Path(__file__).parent / "schemas").glob("*.json"))
REFUSED = {
    "eslint-id-length": "uniqueItems",
    "eslint-no-magic-numbers": "uniqueItems",
    "eslint-no-restricted-imports": "uniqueItems",
    "nbformat-v4.5": "uniqueItems",
}
"""The real schemas that cannot be enforced, and the keyword that is named."""

seeds = st.integers(0, 2**32)
relaxed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def assert_sound(schema: Any, seed: int, texts: int = 5) -> None:
    generator = Generator(to_grammar(schema), seed)
    judge = validator(schema)
    for _ in range(texts):
        text = generator.text()
        errors = list(judge.iter_errors(json.loads(text)))
        assert not errors, f"{text!r}: {errors[0].message}"


def test_there_are_a_hundred_real_schemas_each_with_its_source() -> None:
    sources = (SCHEMAS[0].parent / "SOURCES.md").read_text(encoding="utf-8")
    assert len(SCHEMAS) == 100
    assert all(f"| {file.name} |" in sources for file in SCHEMAS)


@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.stem)
def test_a_real_schema_generates_valid_texts_or_is_refused_by_keyword(file: Path) -> None:
    schema = json.loads(file.read_text(encoding="utf-8"))
    if file.stem in REFUSED:
        with pytest.raises(UnsupportedParameter) as caught:
            to_grammar(schema)
        assert f"the schema keyword {REFUSED[file.stem]!r}" in caught.value.message
        return
    assert_sound(schema, seed=7, texts=25)


names = st.sampled_from(["a", "b", "kind", "x-y", 'q"uote', "ключ"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-20, 20), st.sampled_from([0.5, -1.25, 2.0]), st.text(max_size=3)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2), max_leaves=3
)
PATTERNS = ["^[a-z]{2,4}$", "a|b", r"^\d+$", r"^(?:x|yy)+[^\s\d]?$", ".", r"\.js$", "^$", r"^[^a-c]*\w"]


@st.composite
def bounds(draw: st.DrawFn, low: str, high: str, numbers: st.SearchStrategy[Any]) -> dict[str, Any]:
    made = {}
    if draw(st.booleans()):
        made[low] = draw(numbers)
    if draw(st.booleans()):
        made[high] = draw(numbers)
    return made


def mapped(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


numbers_ = st.one_of(st.integers(-120, 1200), st.sampled_from([-7.25, 0.1, 0.5, 3.75, 1e3, 99.999]))
string_schemas = merged(
    st.just({"type": "string"}),
    bounds("minLength", "maxLength", st.integers(0, 5)),
    mapped(pattern=st.sampled_from(PATTERNS), format=st.sampled_from(["date", "ipv4", "made-up"])),
)
number_schemas = merged(
    st.sampled_from([{"type": "integer"}, {"type": "number"}, {"type": ["integer", "null"]}]),
    bounds("minimum", "maximum", numbers_),
    bounds("exclusiveMinimum", "exclusiveMaximum", numbers_),
    mapped(multipleOf=st.sampled_from([1, 2, 5, 10, 0.5, 0.01, 7, 300])),
)
value_schemas = st.one_of(
    mapped(enum=st.lists(values, min_size=1, max_size=4)), st.builds(lambda value: {"const": value}, values)
)


def object_schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return merged(
        mapped(type=st.just("object")),
        mapped(
            properties=st.dictionaries(names, inner, max_size=4),
            required=st.lists(names, max_size=2, unique=True),
            additionalProperties=st.booleans() | inner,
            patternProperties=st.dictionaries(st.sampled_from(["^x", "k", "^[a-b]$"]), inner, max_size=2),
            propertyNames=st.sampled_from([{"maxLength": 4}, {"pattern": "^[a-z]"}, {"enum": ["a", "b"]}]),
            minProperties=st.integers(0, 3),
            maxProperties=st.integers(0, 4),
            dependentRequired=st.just({"a": ["b"]}),
            unevaluatedProperties=st.booleans(),
        ),
    )


def array_schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return merged(
        mapped(type=st.just("array")),
        mapped(
            items=inner,
            prefixItems=st.lists(inner, min_size=1, max_size=3),
            minItems=st.integers(0, 3),
            maxItems=st.integers(0, 4),
            uniqueItems=st.booleans(),
        ),
    )


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.tuples(
        inner.filter(lambda schema: isinstance(schema, dict)),
        mapped(anyOf=some, oneOf=some, allOf=some, **{"not": inner, "if": inner, "then": inner, "else": inner}),
    ).map(lambda parts: {**parts[0], **parts[1]})


leaves = st.one_of(st.booleans(), string_schemas, number_schemas, value_schemas)
schemas = st.recursive(
    leaves, lambda inner: st.one_of(object_schemas(inner), array_schemas(inner), combined(inner)), max_leaves=8
)


@settings(parent=relaxed, max_examples=400)
@given(schemas, seeds)
def test_texts_of_drawn_schemas_are_valid(schema: Any, seed: int) -> None:
    try:
        assert_sound(schema, seed)
    except InvalidRequest as error:
        event(type(error).__name__)
        assume(False)


@relaxed
@given(number_schemas, st.integers(-1300, 1300) | st.sampled_from([0.5, 3.25, -7.5, 99.99]), seeds)
def test_numbers_are_sound_and_integers_in_range_complete(schema: dict[str, Any], value: float, seed: int) -> None:
    try:
        grammar = to_grammar(schema)
    except InvalidRequest:
        assume(False)
    assert_sound(schema, seed, texts=20)
    if isinstance(value, int) and validator(schema).is_valid(value):
        assert Matcher(grammar).accepts(str(value))


@relaxed
@given(string_schemas, st.text("ab1x y.js", max_size=6), seeds)
def test_strings_are_sound_and_plain_ones_complete(schema: dict[str, Any], value: str, seed: int) -> None:
    schema = {key: inner for key, inner in schema.items() if key != "format"}
    try:
        grammar = to_grammar(schema)
    except InvalidRequest:
        assume(False)
    assert_sound(schema, seed, texts=10)
    assert Matcher(grammar).accepts(json.dumps(value)) == validator(schema).is_valid(value)


atoms = st.sampled_from(["a", "b", ".", r"\d", r"\w", r"\s", "[a-c]", "[^a]", r"[^\d\s]", r"\.", "(?:ab|c)", "(b)"])
counts = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,3}", "{0,}", "+?"])
branches = st.lists(st.tuples(atoms, counts).map("".join), max_size=4).map("".join)
regexes = st.tuples(
    st.sampled_from(["", "^"]), st.lists(branches, min_size=1, max_size=2).map("|".join), st.sampled_from(["", "$"])
).map(lambda parts: f"{parts[0]}(?:{parts[1]}){parts[2]}")


@relaxed
@given(regexes, st.text("abc1 .", max_size=6), seeds)
def test_a_pattern_means_what_python_and_the_standard_agree_on(pattern: str, text: str, seed: int) -> None:
    schema = {"type": "string", "pattern": pattern}
    grammar = to_grammar(schema)
    generator = Generator(grammar, seed)
    for _ in range(5):
        made = json.loads(generator.text())
        assert re.search(pattern, made)
    assert Matcher(grammar).accepts(json.dumps(text)) == bool(re.search(pattern, text))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_enforced_format_agrees_with_its_checker(name: str) -> None:
    assert_sound({"type": "string", "format": name}, seed=3, texts=400)
