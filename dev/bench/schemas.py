"""How real JSON Schemas fare with the default model, through the API of a server started for it.

Each schema of tests/grammar/schemas is asked for once. An answer that stopped must validate against the schema as it
was published, by the jsonschema library under the schema's own draft with the formats we enforce asserted; one that ran
into the token limit is counted apart; a schema that is refused is counted by the keyword the refusal names.

With --base-url and --key a server that runs already is asked instead. The exit status is 1 when an answer that stopped
is not valid, or a schema failed in any other way.
"""

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema
from dev.bench import record
from dev.bench.ours import dayspring
from dev.fetch_test_models import cache_folder
from jsonschema.validators import validator_for
from openai import BadRequestError, OpenAI

from dayspring.engines.llamacpp.grammar.formats import FORMATS

SCHEMAS = record.ROOT / "tests" / "grammar" / "schemas"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT_CHARACTERS = 6_000
"""Of the schema as the prompt shows it: the model's context also has to hold the answer."""

Answer = Callable[[dict[str, Any]], tuple[str, str]]
"""schema -> (text, finish_reason); raises Refusal."""


class Refusal(Exception):  # noqa: N818 - an outcome, not a fault
    """The schema was refused, with the request field at fault and the sentence."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.keyword = _refused_keyword(param, message)


@dataclass(frozen=True)
class Outcome:
    schema: str
    result: str
    """valid, invalid, length, refused or failed."""
    detail: str
    seconds: float
    characters: int


def main(options: Sequence[str] | None = None) -> None:
    args = _arguments(options)
    if args.base_url:
        _measure(args, _over_http(args.base_url, args.key, args))
        return
    model = (cache_folder() / MODEL_FILE).resolve()
    if not model.exists():
        raise SystemExit(f"{MODEL_FILE} is not in the test cache. Run: python dev/fetch_test_models.py")
    add = ("models", "add", f"file:{model}", "--id", args.model, "--licence", "Apache-2.0", "--yes")
    with dayspring({}, add) as (url, key, _):
        _measure(args, _over_http(url, key, args))


def _measure(args: argparse.Namespace, answer: Answer) -> None:
    files = sorted(SCHEMAS.glob("*.json"))[: args.limit]
    with ThreadPoolExecutor(args.parallel) as pool:
        outcomes = list(pool.map(lambda file: _try(file, answer), files))
    counts = Counter(outcome.result for outcome in outcomes)
    refused = Counter(outcome.detail for outcome in outcomes if outcome.result == "refused")
    figures = {
        "schemas": len(files),
        "stop_valid": counts["valid"],
        "stop_invalid": counts["invalid"],
        "length": counts["length"],
        "refused": counts["refused"],
        "refused_by_keyword": dict(refused.most_common()),
        "failed": counts["failed"],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    setup = {
        "model": args.model,
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
        "seed": args.seed,
        "parallel": args.parallel,
    }
    record.print_table(
        ["schemas", "stop, valid", "stop, invalid", "length", "refused", "failed"],
        [[len(files), *(counts[name] for name in ("valid", "invalid", "length", "refused", "failed"))]],
    )
    for outcome in outcomes:
        if outcome.result in ("invalid", "failed", "refused"):
            print(f"{outcome.result}: {outcome.schema}: {outcome.detail}")
    record.write("schemas", figures, versions=["dayspring", "xllamacpp", "jsonschema"], setup=setup)
    if counts["invalid"] or counts["failed"]:
        sys.exit(1)


def _arguments(options: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.bench schemas", description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", help="an OpenAI-compatible API, such as http://127.0.0.1:8420/v1")
    parser.add_argument("--key", default=os.environ.get("OPENAI_API_KEY", "none"))
    parser.add_argument("--model", default="smollm2-135m-instruct", help="the model's id")
    parser.add_argument("--max-tokens", type=int, default=600)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--limit", type=int, help="only the first so many schemas")
    return parser.parse_args(options)


def _try(file: Path, answer: Answer) -> Outcome:
    schema = json.loads(file.read_text(encoding="utf-8"))
    began = time.perf_counter()
    text, result, detail = "", "", ""
    try:
        text, finish = answer(schema)
    except Refusal as refusal:
        result, detail = "refused", refusal.keyword
    except Exception as error:  # noqa: BLE001 - one schema that fails in whatever way is a figure, not the end of the run
        result, detail = "failed", f"{type(error).__name__}: {error}"
    else:
        if finish == "stop":
            detail = fault(schema, text)
            result = "invalid" if detail else "valid"
        else:
            result = "length" if finish == "length" else "failed"
            detail = "" if finish == "length" else f"finish_reason {finish}"
    return Outcome(file.stem, result, detail, round(time.perf_counter() - began, 3), len(text))


def fault(schema: dict[str, Any], text: str) -> str:
    """Why the text is not valid against the schema; empty if it is."""
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    checker = jsonschema.FormatChecker(())
    checker.checkers = {name: check for name, check in kind.FORMAT_CHECKER.checkers.items() if name in FORMATS}
    try:
        kind(schema, format_checker=checker).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{str(error).splitlines()[0]} in {text[:200]!r}"
    return ""


def _messages(schema: dict[str, Any]) -> list[dict[str, str]]:
    shown = json.dumps(_bare(schema), ensure_ascii=False, separators=(",", ":"))[:PROMPT_CHARACTERS]
    return [
        {"role": "system", "content": "You answer with one short JSON value and nothing else."},
        {
            "role": "user",
            "content": f"Write one short realistic example that is valid against this JSON Schema:\n{shown}",
        },
    ]


def _bare(value: Any) -> Any:
    """The schema without long annotations."""
    if isinstance(value, dict):
        return {
            name: _bare(inner)
            for name, inner in value.items()
            if not (name in ("description", "$comment", "markdownDescription") and isinstance(inner, str))
        }
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def _over_http(url: str, key: str, args: argparse.Namespace) -> Answer:
    client = OpenAI(base_url=url, api_key=key, timeout=600, max_retries=0)

    def answer(schema: dict[str, Any]) -> tuple[str, str]:
        try:
            reply = client.chat.completions.create(
                model=args.model,
                messages=_messages(schema),  # type: ignore[arg-type]
                max_completion_tokens=args.max_tokens,
                temperature=args.temperature,
                seed=args.seed,
                response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
            )
        except BadRequestError as error:
            raise Refusal(str(error.param or ""), str(error.message)) from error
        return reply.choices[0].message.content or "", str(reply.choices[0].finish_reason)

    return answer


def _refused_keyword(param: str, message: str) -> str:
    named = re.search(r"the schema keyword '([^']+)'", message)
    if named:
        return named[1]
    return "size" if "too large" in message else param or message
