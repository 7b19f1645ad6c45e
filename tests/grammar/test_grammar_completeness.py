"""Common valid texts in compact form are accepted, and near misses are not."""

import json
from typing import Any

import pytest
from grammar_oracle import Matcher, validator

from dayspring.engines.llamacpp.grammar.compiler import to_grammar

NODE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["value"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SHAPES = {
    "type": "object",
    "required": ["shape"],
    "oneOf": [
        {
            "properties": {"shape": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0}},
            "required": ["radius"],
        },
        {"properties": {"shape": {"const": "square"}, "side": {"type": "number"}}, "required": ["side"]},
    ],
}
ADDRESS = {
    "type": "object",
    "properties": {"country": {"enum": ["US", "NL"]}, "code": {"type": "string"}},
    "required": ["country", "code"],
    "if": {"properties": {"country": {"const": "US"}}},
    "then": {"properties": {"code": {"pattern": "^[0-9]{5}$"}}},
    "else": {"properties": {"code": {"pattern": "^[0-9]{4} [A-Z]{2}$"}}},
}
OPTIONAL = {"type": "object", "properties": {name: {"type": "integer"} for name in "abcd"}, "required": ["c"]}

CASES: list[tuple[Any, list[Any], list[Any]]] = [
    (True, [None, 1, -2.5, "x", [], {}, {"a": [1, {"b": "c"}]}], []),
    ({"type": ["string", "null"]}, ["", "\u00e9\U0001f600", None], [1, [], True]),
    ({"type": "integer"}, [0, 7, -3, 123456789012345], [1.5, "1"]),
    ({"type": "integer", "minimum": -12, "maximum": 105}, [-12, -1, 0, 9, 10, 99, 100, 105], [-13, 106, 1000]),
    ({"type": "number", "minimum": 0.25, "maximum": 10}, [0.25, 0.3, 1, 9.99, 10], [0.24, 0, 10.01, 11, -1]),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, [0.01, 0.5, 1], [0, 1.01, -0.5]),
    ({"type": "integer", "multipleOf": 25, "minimum": 0}, [0, 25, 1000], [1, 26, -25]),
    ({"enum": ["a", 1, None, {"k": [1]}, 'a\n"b']}, ["a", 1, None, {"k": [1]}, 'a\n"b'], ["b", 2, {"k": []}]),
    ({"enum": ["x", 3, "long"], "type": "string", "maxLength": 2}, ["x"], [3, "long"]),
    ({"type": "string", "minLength": 1, "maxLength": 2}, ["a", "ab", "\U0001f600b"], ["", "abc"]),
    ({"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ["a", "abcd", "A1"]),
    ({"allOf": [{"pattern": "^a"}, {"pattern": "b$"}], "type": "string"}, ["ab", "axb"], ["a", "b"]),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        [[1], [1, 2, 3]],
        [[], [1, 2, 3, 4], ["x"]],
    ),
    (
        {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
        [[], ["a"], ["a", 1]],
        [[1], ["a", 1, 2]],
    ),
    (
        {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b", "c"]}},
        [[], ["c", "a"], ["b", "a", "c"]],
        [["a", "a"]],
    ),
    (OPTIONAL, [{"c": 1}, {"a": 1, "c": 2}, {"b": 1, "c": 2, "d": 3}], [{}, {"a": 1}]),
    (
        {"type": "object", "additionalProperties": {"type": "integer"}, "properties": {"ab": {"type": "string"}}},
        [{}, {"ab": "x"}, {"a": 1}, {"ab": "x", "abc": 1}],
        [{"ab": 1}, {"a": "x"}],
    ),
    (
        {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False},
        [{}, {"x-a": 1}],
        [{"a": 1}, {"x-a": "s"}],
    ),
    (
        {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2, "maxProperties": 2},
        [{"a": 1, "c": 2}],
        [{"a": 1}, {"a": 1, "b": 2, "c": 3}],
    ),
    ({"type": "object"}, [{}, {"any": {"thing": [1]}}], [[], 1]),
    (NODE, [{"value": 1}, {"value": 1, "next": {"value": 2, "next": {"value": 3}}}], [{}, {"value": 1, "next": {}}]),
    (SHAPES, [{"shape": "circle", "radius": 1.5}, {"shape": "square", "side": 2}], [{"shape": "circle", "radius": 0}]),
    (
        ADDRESS,
        [{"country": "US", "code": "12345"}, {"country": "NL", "code": "1234 AB"}],
        [{"country": "NL", "code": "12345"}, {"country": "US", "code": "1234 AB"}],
    ),
    ({"oneOf": [{"type": "integer", "minimum": 0}, {"type": "integer", "maximum": 10}]}, [-1, 11], [5]),
    (
        {
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            "type": "object",
            "properties": {"a": {"const": 1}, "b": {"const": 2}},
        },
        [{"a": 1}, {"b": 2}],
        [{}, {"a": 1, "b": 2}],
    ),
    ({"type": "string", "not": {"enum": ["no", "never"]}}, ["yes", "nope", ""], ["no", "never"]),
    (
        {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "dependentRequired": {"a": ["b"]}},
        [{}, {"b": 2}, {"a": 1, "b": 2}],
        [{"a": 1}],
    ),
    (
        {"anyOf": [{"$ref": "#/definitions/s"}, {"type": "null"}], "definitions": {"s": {"type": "string"}}},
        ["x", None],
        [1],
    ),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
    (
        {"type": "string", "format": "date-time"},
        ["2024-02-29T23:59:59Z", "1999-01-31T00:00:00.5+05:30"],
        ["2023-02-29T00:00:00Z", "2024-01-01"],
    ),
    ({"type": "string", "format": "email"}, ["ada.lovelace@example.com"], ["nobody"]),
    (
        {"type": "string", "format": "uri"},
        ["https://example.com/a/b?c=d&e=f#g", "ftp://host.example:21/x"],
        ["example"],
    ),
    ({"type": "string", "format": "ipv6"}, ["2001:db8::1", "::", "1:2:3:4:5:6:7:8"], ["1:2", ":::"]),
    ({"type": "string", "format": "a-format-of-our-own"}, ["anything"], [1]),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES, ids=lambda case: json.dumps(case)[:60])
def test_valid_texts_are_accepted_and_near_misses_are_not(schema: Any, valid: list[Any], invalid: list[Any]) -> None:
    matcher, judge = Matcher(to_grammar(schema)), validator(schema)
    for value in valid:
        assert judge.is_valid(value), "the case itself is wrong"
        assert matcher.accepts(json.dumps(value, separators=(",", ":"), ensure_ascii=False)), value
        assert matcher.accepts(json.dumps(value, ensure_ascii=False)) or isinstance(value, list | dict), value
    for value in invalid:
        assert not judge.is_valid(value), "the case itself is wrong"
        assert not matcher.accepts(json.dumps(value, separators=(",", ":"), ensure_ascii=False)), value


def test_one_blank_after_colon_and_comma_is_accepted_and_two_are_not() -> None:
    matcher = Matcher(
        to_grammar({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}})
    )
    assert matcher.accepts('{"a":[1,2]}')
    assert matcher.accepts('{"a": [1, 2]}')
    for text in ('{"a":  [1]}', '{ "a":[1]}', '{"a":[1 ,2]}', '{"a":[1]} ', "\n{}"):
        assert not matcher.accepts(text)


def test_escapes_are_well_formed_and_count_as_one_character() -> None:
    matcher = Matcher(to_grammar({"type": "string", "minLength": 1, "maxLength": 1}))
    assert all(matcher.accepts(text) for text in (r'"\n"', r'"A"', r'"😀"', '"\U0001f600"', '"\x7f"'))
    assert not any(
        matcher.accepts(text) for text in (r'"\ud83d"', r'"\ude00\ud83d"', '"\n"', r'"\x"', '"\x00"', r'"AA"')
    )


def test_no_extra_keys_are_generated_unless_the_schema_speaks_of_them() -> None:
    matcher = Matcher(to_grammar({"type": "object", "properties": {"a": {"type": "integer"}}}))
    assert matcher.accepts('{"a":1}')
    assert not matcher.accepts('{"b":1}')


def test_a_required_name_that_is_not_declared_may_hold_anything() -> None:
    matcher = Matcher(to_grammar({"type": "object", "required": ["x"]}))
    assert matcher.accepts('{"x":[true]}')
    assert not matcher.accepts("{}")
