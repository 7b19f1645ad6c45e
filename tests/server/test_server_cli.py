"""The command line: it loads what a command needs, and says what is wrong in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dayspring.cli import bench
from dayspring.cli.bench import Answer
from dayspring.core.errors import InvalidRequest


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def dayspring(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dayspring", *words],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("word", "not_needed"),
    [
        ("version", ["fastapi", "sqlalchemy", "aiohttp", "dayspring.server.house"]),
        ("keys", ["fastapi", "uvicorn", "dayspring.server.app", "dayspring.compute.service"]),
        ("models", ["fastapi", "uvicorn", "numpy", "gguf", "safetensors"]),
        ("serve", ["xllamacpp", "gguf", "numpy", "torch", "safetensors"]),
    ],
)
def test_a_command_loads_only_what_it_needs(word: str, not_needed: list[str]) -> None:
    code = f"import sys; from dayspring.cli.main import build; build({word!r}); "
    code += f"print([name for name in {not_needed!r} if name in sys.modules])"
    assert python(code) == "[]"


def test_help_knows_every_command() -> None:
    text = dayspring("--help").stdout
    for word in ("serve", "models", "keys", "prices", "usage", "doctor", "bench", "version"):
        assert word in text


def test_a_mistyped_folder_is_no_empty_installation(tmp_path: Path) -> None:
    done = dayspring("keys", "list", "--home", str(tmp_path / "mistyped"))
    assert done.returncode == 1
    assert "There is no installation" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`file` is a file; `broken` holds a file that is no database; `good` counts in USD; `none` is not there."""
    folder = tmp_path_factory.mktemp("homes")
    (folder / "file").write_text("x")
    (folder / "broken").mkdir()
    (folder / "broken" / "dayspring.db").write_text("this is no database, " * 100)
    assert dayspring("keys", "create", "--home", str(folder / "good")).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("words", "home", "environment", "said"),
    [
        ("keys list", "file", {}, "There is no installation"),
        ("keys create", "file", {}, "Choose another with --home"),
        ("keys list", "broken", {}, "database cannot be opened"),
        ("keys create --budget 1e-12", "none", {}, "is no amount of money"),
        ("keys create --expires 99999w", "none", {}, "at most 100 years"),
        ("keys create --project nope", "good", {}, "There is no project 'nope'"),
        ("keys revoke nope", "good", {}, "There is no key 'nope'"),
        ("models show nope", "good", {}, "There is no model 'nope'"),
        ("prices set echo", "good", {}, "No price was given"),
        ("keys list", "good", {"CURRENCY": "EUR"}, "DAYSPRING_CURRENCY=USD"),
        ("serve", "good", {"CURRENCY": "EUR", "PORT": "0"}, "DAYSPRING_CURRENCY=USD"),
        ("doctor", "good", {"PORT": "x"}, "DAYSPRING_PORT: "),
        ("doctor", "good", {"DEVICE_COST_NANOS": "cpu=x"}, "DAYSPRING_DEVICE_COST_NANOS: "),
        ("bench --model m", "none", {}, "Give one with --key"),
        ("bench --model m --url http://127.0.0.1:9", "good", {}, "Start the server"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_status_1(
    homes: Path, words: str, home: str, environment: dict[str, str], said: str
) -> None:
    named = {f"DAYSPRING_{name}": value for name, value in environment.items()}
    done = dayspring(*words.split(), "--home", str(homes / home), **named)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_doctor_names_a_broken_database_and_a_folder_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "dayspring.db").write_text("this is no database, " * 100)
    tmp_path.chmod(0o755)
    done = dayspring("doctor", "--json", "--home", str(tmp_path), DAYSPRING_HOST="::1", DAYSPRING_PORT="1")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert findings["database"]["state"] == "bad"
    assert "chmod 700" in findings["data folder"]["detail"]
    assert findings["port"]["detail"] == "1 is free"


def test_doctor_says_that_there_are_no_models(tmp_path: Path) -> None:
    assert dayspring("keys", "create", "--home", str(tmp_path)).returncode == 0
    findings = json.loads(dayspring("doctor", "--json", "--home", str(tmp_path)).stdout)
    assert [each["detail"] for each in findings if each["what"] == "models"] == [
        "none; add one with 'dayspring models add'"
    ]


def test_a_measurement_is_the_sum_and_the_middle_of_its_answers() -> None:
    answers = [
        Answer(first_s=second / 1000, whole_s=1, output_tokens=10, price_nanos=5, cost_nanos=None)
        for second in range(1, 101)
    ]
    line = bench._line(8, answers, seconds=4.0)
    assert (line.streams, line.requests, line.output_tokens, line.tokens_per_s) == (8, 100, 1000, 250.0)
    assert (line.first_token_p50_ms, line.price_nanos, line.cost_nanos) == (50.5, 500, None)
    assert 94 < line.first_token_p95_ms < 97
    assert bench._line(1, answers[:1], seconds=1.0).first_token_p95_ms == 1


@pytest.mark.parametrize("text", ["", "0", "1,", "x", "-1", "1.5", "99999"])
def test_numbers_of_streams_that_make_no_sense_are_refused(text: str) -> None:
    assert bench._numbers("1, 8") == [1, 8]
    with pytest.raises(InvalidRequest):
        bench._numbers(text)


def test_a_project_is_made_opened_listed_and_archived(tmp_path: Path) -> None:
    home = ("--home", str(tmp_path))
    made = json.loads(dayspring("projects", "create", "red", "--json", *home).stdout)
    assert dayspring("people", "add", "a@b.example", *home).returncode == 0
    opened = dayspring("projects", "open", made["id"], "a@b.example", "--role", "viewer", *home)
    assert opened.stdout == f"a@b.example is viewer of {made['id']}.\n"
    assert dayspring("projects", "archive", made["id"], *home).returncode == 0
    listed = [each["name"] for each in json.loads(dayspring("projects", "list", "--json", *home).stdout)]
    everyone = json.loads(dayspring("projects", "list", "--archived", "--json", *home).stdout)
    assert listed == ["default"]
    assert [(each["name"], each["archived"]) for each in everyone] == [("default", False), ("red", True)]
