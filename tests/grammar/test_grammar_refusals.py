"""What cannot be enforced is a 400 that names it; what is hostile ends soon and plainly."""

import json
import time
from typing import Any

import pytest
from grammar_oracle import Matcher

from dayspring.core.errors import InvalidRequest, UnsupportedParameter
from dayspring.engines.llamacpp.grammar import compile_schema
from dayspring.engines.llamacpp.grammar.compiler import to_grammar
from dayspring.engines.llamacpp.grammar.gbnf import to_gbnf

PARAM = "response_format.json_schema.schema"

REFUSED: list[tuple[str, Any]] = [
    ("contains", {"type": "array", "contains": {"type": "integer"}}),
    ("uniqueItems", {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
    ("pattern", {"type": "string", "pattern": "^(?=a)b"}),
    ("pattern", {"type": "string", "pattern": r"(a)\1"}),
    ("pattern", {"type": "string", "pattern": r"\bword\b"}),
    ("pattern", {"type": "string", "pattern": r"^\p{L}+$"}),
    ("multipleOf", {"type": "number", "multipleOf": 0.7}),
    ("minProperties", {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 2}),
    ("$ref", {"$ref": "https://example.com/schema.json"}),
    ("$ref", {"$ref": "#anchor"}),
    ("$dynamicRef", {"$dynamicRef": "#node"}),
    ("oneOf", {"oneOf": [{"type": "string", "format": "uri"}, {"type": "string", "format": "date"}]}),
    ("not", {"type": "array", "items": {}, "not": {"contains": {"const": 1}}}),
    ("not", {"type": "object", "not": {"const": {}}}),
    ("if", {"if": {"contains": True}, "then": {"type": "array"}}),
    ("propertyNames", {"type": "object", "propertyNames": {"anyOf": [{"minLength": 2}]}}),
    ("unevaluatedProperties", {"type": "object", "unevaluatedProperties": {"type": "string"}}),
    ("minItems", {"type": "array", "minItems": 10**7}),
]


@pytest.mark.parametrize(("keyword", "schema"), REFUSED, ids=lambda value: json.dumps(value)[:50])
def test_what_cannot_be_enforced_names_the_keyword_and_its_pointer(keyword: str, schema: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        compile_schema({"type": "object", "properties": {"a/b": schema}})
    assert f"the schema keyword {keyword!r} at '#/properties/a~1b/{keyword}'" in caught.value.message
    assert caught.value.param == f"{PARAM}/properties/a~1b/{keyword}"
    assert caught.value.message.endswith("check it on the answer.")


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "string", "pattern": "^a$", "minLength": 2},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"enum": ["a"], "type": "integer"},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]},
        {"type": "array", "items": False, "minItems": 1},
    ],
    ids=json.dumps,
)
def test_an_unsatisfiable_schema_is_said_to_be(schema: Any) -> None:
    with pytest.raises(InvalidRequest, match="unsatisfiable"):
        compile_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"type": 5},
        {"properties": []},
        {"properties": {"a": 1}},
        {"type": "string", "minLength": -1},
        {"type": "string", "pattern": "(a"},
        {"type": "string", "pattern": "[b-a]"},
        {"type": "number", "minimum": "1"},
        {"anyOf": []},
        {"required": "a"},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "number", "multipleOf": 0},
        {"enum": "a"},
    ],
    ids=json.dumps,
)
def test_what_is_no_schema_is_an_invalid_request_with_its_place(schema: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        compile_schema(schema)
    assert caught.value.status == 400
    assert "'#" in caught.value.message


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


HOSTILE: dict[str, Any] = {
    "deep": nested(50_000),
    "wide": {"enum": [f"value {number}" for number in range(100_000)]},
    "states": {"type": "string", "pattern": "^(?:a|b)*a(?:a|b){15}$"},
    "counted": {"type": "string", "pattern": "^(?:(?:a{1,900}){1,900}){1,900}$"},
    "groups": {"type": "string", "pattern": "(" * 5000 + ")" * 5000},
    "stars": {"type": "string", "pattern": "^(?:(?:(?:(?:a*)*)*)*)*b$"},
    "long": {"type": "string", "minLength": 10_000, "maxLength": 10_000, "pattern": "^[a-z]*$"},
    "product": {"allOf": [{"anyOf": [{"required": [f"{row}{col}"]} for col in range(8)]} for row in range(8)]},
    "chain": {"$ref": "#/$defs/0", "$defs": {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(3000)} | {"3000": {}}},
    "tower": {
        "$ref": "#/$defs/0",
        "$defs": {str(i): {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(60)}
        | {"60": {"type": "string"}},
    },
    "items": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "string", "maxLength": 10**9}, "maxItems": 10**9},
        "maxItems": 10**9,
    },
    "bits": {"type": "array", "uniqueItems": True, "minItems": 200, "items": {"enum": list(range(256))}},
    "digits": {"type": "number", "minimum": -1.7e308, "maximum": 1.7e308, "multipleOf": 997},
    "counters": {"type": "object", "properties": {str(i): {} for i in range(2000)}, "minProperties": 1000},
    "either": {"oneOf": [{"properties": {f"p{i}": {"type": "integer", "minimum": i}}} for i in range(60)]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_compiles_or_is_refused_within_seconds(name: str) -> None:
    began = time.process_time()
    message = "."
    try:
        compile_schema(HOSTILE[name])
    except InvalidRequest as error:
        message = error.message
    assert message.endswith(".")
    assert time.process_time() - began < 5


def test_the_order_of_properties_is_part_of_what_is_cached() -> None:
    schemas = [{"type": "object", "properties": {name: {"const": 1} for name in order}} for order in ("ab", "ba")]
    first, second = (compile_schema(schema) for schema in schemas)
    assert first != second
    assert compile_schema(json.loads(json.dumps(schemas[0]))) is first
    assert Matcher(to_grammar(schemas[1])).accepts('{"b":1,"a":1}')
    assert not Matcher(to_grammar(schemas[1])).accepts('{"a":1,"b":1}')


def test_optional_properties_take_rules_in_proportion_to_their_number() -> None:
    def lines(count: int) -> int:
        properties = {f"p{index}": {"type": "boolean"} for index in range(count)}
        return compile_schema({"type": "object", "properties": properties}).count("\n")

    assert lines(200) < 2.2 * lines(100)


def test_a_long_repetition_takes_few_rules_and_no_repetition_operator() -> None:
    text = to_gbnf(to_grammar({"type": "string", "minLength": 5000, "maxLength": 1_000_000}))
    assert text.count("\n") < 500
    assert "{" not in text.replace('"{', "")
