"""Processes that die while they run a job, and the ones that come after them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jobs_process import STEPS

from dayspring.jobs import durable, records
from dayspring.store import failpoints
from dayspring.store.database import Database

SCRIPT = Path(__file__).with_name("jobs_process.py")


def _run(home: Path, url: str, fail_at: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DAYSPRING_FAILPOINT": fail_at}
    command = [sys.executable, str(SCRIPT), str(home), url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def _ran(home: Path) -> list[int]:
    return [int(line) for line in (home / "ran.txt").read_text().split()]


@pytest.mark.parametrize(
    "deaths",
    [
        ["test.in-step:1", "test.in-step:3", "test.after-step:2"],
        ["store.before-commit:1", "store.after-commit:1", "store.before-commit:2", "store.after-commit:2"],
        ["test.after-step:6", "store.before-commit:3"],
    ],
)
def test_after_any_death_only_the_step_under_way_is_repeated(
    tmp_path: Path, database: Database, deaths: list[str]
) -> None:
    in_step = 0
    for death in deaths:
        done = _run(tmp_path, database.url, death)
        assert done.returncode in (failpoints.EXIT_CODE, 0), done.stderr
        in_step += death.startswith("test.in-step") and done.returncode != 0
    done = _run(tmp_path, database.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "completed"
    ran = _ran(tmp_path)
    assert sorted(set(ran)) == list(range(STEPS))
    assert ran == sorted(ran), "the steps ran out of order"
    assert len(ran) <= STEPS + len(deaths)
    assert len(ran) >= STEPS + in_step
    job = database.read_sync(lambda connection: records.find(connection, "job_1"))
    assert job is not None
    assert (job.state, job.progress.done) == ("completed", STEPS)


def test_a_job_begun_under_an_older_version_is_taken_up_by_a_newer_one(tmp_path: Path, database: Database) -> None:
    """What would strand it: DBOS runs again only what its own application version began."""
    assert _run(tmp_path, database.url, "test.after-step:2").returncode == failpoints.EXIT_CODE
    newer = "import dayspring; dayspring.__version__ = '99.0'; import runpy, sys; sys.argv = sys.argv[1:]; "
    newer += "sys.path.insert(0, sys.argv[0].rsplit('/', 1)[0]); runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", newer, str(SCRIPT), str(tmp_path), database.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "completed"
    assert _ran(tmp_path) == list(range(STEPS))


def test_the_name_that_jobs_are_found_again_by_never_changes() -> None:
    assert (durable.APPLICATION_VERSION, durable.SCHEMA) == ("jobs-1", "dayspring_jobs")


@pytest.mark.postgres
def test_two_servers_of_one_database_run_each_job_once_on_the_one_that_made_it(
    tmp_path: Path, migrated_postgres: tuple[str, list[str]]
) -> None:
    url, _ = migrated_postgres
    homes = [tmp_path / name for name in ("a", "b")]
    for home in homes:
        home.mkdir()
    commands = [[sys.executable, str(SCRIPT), str(home), url, f"job_{home.name}"] for home in homes]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for command in commands]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.strip() == "completed"
    for home in homes:
        assert _ran(home) == list(range(STEPS))
