"""llama.cpp reads every grammar we print, and what the default model then writes is valid."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
from grammar_oracle import validator

from dayspring.core.errors import UnsupportedParameter
from dayspring.engines.llamacpp.grammar import compile_schema

pytestmark = pytest.mark.model

SCHEMAS = sorted((Path(__file__).parent / "schemas").glob("*.json"))
SMALL: list[Any] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
    },
    {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2, "maxItems": 4, "uniqueItems": True},
    {"type": "string", "format": "date-time"},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    {"type": "number", "exclusiveMinimum": -1.5, "exclusiveMaximum": 2.25},
    {"type": "string", "minLength": 300, "maxLength": 310},
    {"oneOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, {"type": "null"}]},
]

Ask = Callable[[str, int], tuple[str, str]]


@pytest.fixture(scope="module")
def ask(default_models: Path) -> Ask:
    """(grammar, most tokens) -> (text, finish_reason)."""
    params = xllamacpp.CommonParams()
    params.model.path = str(default_models / "SmolLM2-135M-Instruct.Q4_1.gguf")
    params.n_ctx = 2048
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)

    def send(grammar: str, tokens: int) -> tuple[str, str]:
        messages = [{"role": "user", "content": "Answer in JSON, and be brief."}]
        replies: list[Any] = []
        body = {"messages": messages, "grammar": grammar, "max_tokens": tokens, "seed": 5, "temperature": 0.7}
        server.handle_chat_completions(json.dumps(body), replies.append)
        reply = replies[-1] if isinstance(replies[-1], dict) else json.loads(replies[-1])
        assert "choices" in reply, reply
        return reply["choices"][0]["message"]["content"] or "", reply["choices"][0]["finish_reason"]

    return send


def test_llama_cpp_reads_the_grammar_of_every_real_schema(ask: Ask) -> None:
    read = 0
    for file in SCHEMAS:
        try:
            grammar = compile_schema(json.loads(file.read_text(encoding="utf-8")))
        except UnsupportedParameter:
            continue
        ask(grammar, 1)
        read += 1
    assert read >= 90


@pytest.mark.parametrize("schema", SMALL, ids=lambda schema: json.dumps(schema)[:50])
def test_an_answer_that_stops_is_valid(ask: Ask, schema: Any) -> None:
    text, finish = ask(compile_schema(schema), 500)
    assert finish == "stop", text
    validator(schema).validate(json.loads(text))
