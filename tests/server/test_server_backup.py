"""A backup and what comes of it: everything, on either database, or nothing at all."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from dayspring.accounts.principals import Principal, Scope
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import Conflict, NotFound, Unavailable
from dayspring.core.settings import Settings
from dayspring.files.records import FileQuery
from dayspring.server.backups.making import make_backup
from dayspring.server.backups.restoring import restore_backup
from dayspring.server.house import RESTORING, House
from dayspring.store import migrate
from dayspring.store.downloads import DownloadRow, add_download, unfinished_downloads
from dayspring.store.failpoints import EXIT_CODE
from dayspring.store.models import ModelFile, add_model
from server.backup_kit import (
    KINDS,
    Made,
    NewHome,
    all_rows,
    made,
    make,
    new_home,
    one_made,
    populate,
    quiet,
    reopened,
    served_at,
    stored_files,
)
from server.server_house import CHAT, HELLO, Served

assert made
assert new_home
assert one_made


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
async def test_an_installation_comes_back_whole_on_either_database(
    new_home: NewHome, tmp_path: Path, source_kind: str, target_kind: str
) -> None:
    source, target, backup = new_home(source_kind), new_home(target_kind), tmp_path / "b.tar"
    async with served_at(source) as house:
        known = await populate(house)
        manifest = make(source, backup)
        rows, files = all_rows(source), stored_files(source)
        content = (await house.ask("GET", f"/v1/files/{known['output']}/content", key=known["key"])).body
        spent = await house.ask("GET", "/v1/organization/costs?start_time=1700000000", key=known["key"])
    assert sum(map(len, rows.values())) > 50
    assert rows["workflow_status"], "the batch's job is in it"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    restored = restore_backup(target, backup, progress=quiet)
    assert restored.manifest == manifest
    assert restored.waiting == []
    after = all_rows(target)
    assert {name: found for name, found in after.items() if found} == {
        name: found for name, found in rows.items() if found
    }
    assert stored_files(target) == files
    assert (target.home / "admin.key").read_bytes() == (source.home / "admin.key").read_bytes()
    assert stat.S_IMODE((target.home / "admin.key").stat().st_mode) == 0o600
    async with reopened(target) as house:
        kept = await house.ask("GET", f"/v1/files/{known['output']}/content", key=known["key"])
        assert kept.body == content
        batch = await house.ask("GET", f"/v1/batches/{known['batch']}", key=known["key"])
        assert batch.json["status"] == "completed"
        again = await house.ask("GET", "/v1/organization/costs?start_time=1700000000", key=known["key"])
        assert again.json["data"][-1] == spent.json["data"][-1]
        assert (await house.ask("POST", CHAT, key=known["key"], json=HELLO)).status == 200, "counters go on"
        await populate(house)
        assert await house.house.ledger.verify() == []


async def test_money_that_was_held_when_it_was_made_is_released_where_it_is_restored(
    new_home: NewHome, tmp_path: Path
) -> None:
    source, target = new_home("sqlite"), new_home("sqlite")
    async with served_at(source) as house:
        (key, *_) = await house.house.accounts.list_keys()
        await house.house.db.write(
            lambda connection: (
                connection.execute(
                    text(
                        "INSERT INTO reservations (request_id, instance_id, organization_id, project_id, key_id, model,"
                        " task, price_version, amount_nanos, created_at_ns) SELECT 'req_held', id, :org, :project,"
                        " :key, 'echo', 'chat', 1, 5000, 1 FROM server_instances"
                    ),
                    {"org": key.organization_id, "project": key.project_id, "key": key.id},
                )
                and connection.execute(
                    text("UPDATE budgets SET held_nanos = held_nanos + 5000 WHERE owner_id IN (:a, :b, :c)"),
                    {"a": key.organization_id, "b": key.project_id, "c": key.id},
                )
                and None
            )
        )
        make(source, tmp_path / "b.tar")
        assert (await house.house.accounts.budget(key.id)).held_nanos == 5000
    restore_backup(target, tmp_path / "b.tar", progress=quiet)
    async with reopened(target) as house:
        assert (await house.house.accounts.budget(key.id)).held_nanos == 0
        assert await house.house.ledger.verify() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_is_not_empty_is_left_as_it_is(made: Made, new_home: NewHome, kind: str) -> None:
    backup = made.backup
    target = new_home(kind)
    target.home.mkdir()
    (target.home / "notes.txt").write_text("mine")
    with pytest.raises(Conflict, match=r"notes\.txt"):
        restore_backup(target, backup, progress=quiet)
    assert [path.name for path in target.home.iterdir()] == ["notes.txt"]
    (target.home / "notes.txt").unlink()
    restore_backup(target, backup, progress=quiet)
    rows = all_rows(target)
    with pytest.raises(Conflict, match="not empty"):
        restore_backup(target, backup, progress=quiet)
    if kind == "postgresql":
        elsewhere = Settings(home=target.home.with_name("elsewhere"), database_url=target.database_url)
        with pytest.raises(Conflict, match="database is not empty"):
            restore_backup(elsewhere, backup, progress=quiet)
        assert not elsewhere.home.exists()
    assert all_rows(target) == rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_restore_that_fails_leaves_nothing(
    made: Made, new_home: NewHome, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = made.backup
    target = new_home(kind)

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dayspring.server.backups.restoring._forget_servers", broken)
        with pytest.raises(Unavailable, match="No space"):
            restore_backup(target, backup, progress=quiet)
    assert list(target.home.iterdir()) == []
    restore_backup(target, backup, progress=quiet)


@pytest.mark.parametrize("point", ["restore.filled", "restore.before-commit"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_restore_starts_no_server_and_is_done_again(
    made: Made, new_home: NewHome, kind: str, point: str
) -> None:
    backup = made.backup
    target = new_home(kind)
    environment = {
        **os.environ, "DAYSPRING_FAILPOINT": point, "DAYSPRING_HOME": str(target.home),
        "DAYSPRING_DATABASE_URL": target.database_url,
    }  # fmt: skip
    command = [sys.executable, "-m", "dayspring", "restore", str(backup)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == EXIT_CODE, done.stderr
    assert (target.home / RESTORING).exists()
    with pytest.raises(Conflict, match="did not end"):
        House.open(target)
    restore_backup(target, backup, progress=quiet)
    assert not (target.home / RESTORING).exists()
    assert all_rows(target) == made.rows if kind == "sqlite" else all_rows(target)


def test_what_is_deleted_while_a_backup_is_made_is_in_it_all_the_same(
    made: Made, new_home: NewHome, tmp_path: Path
) -> None:
    source, target = made.settings, new_home("sqlite")
    before = stored_files(source)

    def delete(_step: str, _done: int, _total: int) -> None:
        """Beside the backup: the snapshot is taken, no stored file is written yet."""
        if list((source.home / "scratch").glob("backup-*/blobs-*/*")):
            for file in (source.home / "blobs" / "sha256").glob("*/*/*"):
                file.unlink()

    make_backup(source, tmp_path / "b.tar", progress=delete)
    assert stored_files(source) == set()
    restore_backup(target, tmp_path / "b.tar", progress=quiet)
    assert stored_files(target) == before != set()
    assert list((source.home / "scratch").iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_job_writes_after_its_record_was_read_is_in_it(
    new_home: NewHome, tmp_path: Path, kind: str
) -> None:
    source = new_home(kind)
    async with served_at(source) as house:
        await populate(house)

        def write(step: str, _done: int, _total: int) -> None:
            """The first table is one of the jobs'; a step is done now, too late to be recorded in it."""
            (source.home / "batches" / "b1").mkdir(parents=True, exist_ok=True)
            (source.home / "batches" / "b1" / "chunk-1").write_bytes(b"{}")

        manifest = make_backup(source, tmp_path / "b.tar", progress=write)
    assert "work/batches/b1/chunk-1" in manifest.entries


def test_an_upgrade_while_it_is_made_stops_it(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = migrate.current(made.settings.effective_database_url)
    monkeypatch.setattr(migrate, "current", lambda _url: f"older than {before}")
    with pytest.raises(Conflict, match="newer release meanwhile"):
        make(made.settings, tmp_path / "second.tar")
    assert not list(tmp_path.glob("*second*"))


def test_a_download_under_way_goes_on_in_the_restored_folder(made: Made, new_home: NewHome, tmp_path: Path) -> None:
    home, target = str(made.settings.home), new_home("sqlite")
    row = DownloadRow("dl_1", home, "m", "s", b"{}", "", "running", "", "", 1, 1)
    with House.open(made.settings) as house:
        house.db.write_sync(lambda connection: add_download(connection, row))
    make(made.settings, tmp_path / "second.tar")
    restore_backup(target, tmp_path / "second.tar", progress=quiet)
    with House.open(target) as house:
        found = house.db.read_sync(lambda connection: unfinished_downloads(connection, str(target.home)))
    assert [each.id for each in found] == ["dl_1"]


def test_a_disk_of_its_own_is_an_empty_folder(made: Made, new_home: NewHome, tmp_path: Path) -> None:
    target = new_home("sqlite")
    (target.home / "lost+found").mkdir(parents=True)
    restore_backup(target, made.backup, progress=quiet)
    assert (target.home / "lost+found").is_dir()


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_stored_file_that_is_not_what_it_was_stops_the_backup(made: Made, tmp_path: Path, harm: str) -> None:
    settings = made.settings
    file = next((settings.home / "blobs" / "sha256").glob("*/*/*"))
    file.chmod(0o600)
    file.unlink() if harm == "missing" else file.write_bytes(b"other")
    with pytest.raises(Unavailable, match=f"{file.name}.*{harm}"):
        make(settings, tmp_path / "second.tar")
    assert not list(tmp_path.glob("*second*"))


def test_a_backup_overwrites_nothing_and_needs_an_installation(made: Made, new_home: NewHome, tmp_path: Path) -> None:
    settings, backup = made.settings, made.backup
    before = backup.read_bytes()
    with pytest.raises(Conflict, match="already"):
        make(settings, backup)
    assert backup.read_bytes() == before
    with pytest.raises(NotFound):
        make(new_home("sqlite"), tmp_path / "none.tar")
    with pytest.raises(Unavailable):
        make(settings, tmp_path / "no" / "folder" / "b.tar")


def test_keys_and_certificates_of_the_folder_are_in_it_and_large_files_are_named(
    made: Made, new_home: NewHome, tmp_path: Path
) -> None:
    settings = made.settings
    (settings.home / "tls").mkdir()
    (settings.home / "tls" / "server.pem").write_text("certificate")
    (settings.home / "session.secret").write_bytes(b"\0secret")
    (settings.home / "large.bin").write_bytes(bytes(2 << 20))
    (settings.home / "link").symlink_to("/etc/passwd")
    manifest = make(settings, tmp_path / "second.tar")
    assert sorted(manifest.skipped) == ["large.bin", "link"]
    target = new_home("sqlite")
    restore_backup(target, tmp_path / "second.tar", progress=quiet)
    for name, content in (("tls/server.pem", b"certificate"), ("session.secret", b"\0secret")):
        assert (target.home / name).read_bytes() == content
        assert stat.S_IMODE((target.home / name).stat().st_mode) == 0o600
    assert not (target.home / "large.bin").exists()


async def test_models_come_along_or_are_fetched_again(new_home: NewHome, tmp_path: Path) -> None:
    settings = new_home("sqlite")
    async with served_at(settings) as house:
        await _with_models(house)
        whole = make(settings, tmp_path / "whole.tar")
        light = make(settings, tmp_path / "light.tar", models=False)
        kept = await house.house.files.list(_admin(house), FileQuery())
    assert whole.blobs == 3
    assert len(light.left_out) == 1, "a file of this machine and one that a user has too cannot be fetched"
    assert light.blobs == 2
    assert len(kept.data) == 1
    target, second = new_home("sqlite"), new_home("sqlite")
    assert restore_backup(target, tmp_path / "whole.tar", progress=quiet).waiting == []
    assert (target.home / "models" / "fetched" / "w.gguf").read_bytes() == b"fetched"
    assert restore_backup(second, tmp_path / "light.tar", progress=quiet).waiting == ["fetched"]
    assert (second.home / "models" / "local" / "w.gguf").read_bytes() == b"local"
    assert (second.home / "models" / "shared" / "w.gguf").read_bytes() == b"shared"


def _admin(house: Served) -> object:

    return Principal("o", "p", "k", frozenset({Scope.ADMIN}))


async def _with_models(house: Served) -> None:
    """Models whose source is another host, a file here, and one whose content is a user's file too."""

    blobs, db = house.house.blobs, house.house.db
    for name, source in (("fetched", "hf:a/b"), ("local", "file:/m"), ("shared", "hf:c/d")):
        digest = blobs.put([name.encode()])
        model = Model(name, "echo", (Ability.CHAT,), source=source, path=f"{name}/w.gguf", created_at=1)
        files = [ModelFile("w.gguf", digest, len(name))]
        await db.write(lambda connection, model=model, files=files: add_model(connection, model, files))
        blobs.link(digest, house.house.settings.home / "models" / name / "w.gguf")

    async def content() -> object:
        yield b"shared"

    await house.house.files.create(_admin(house), name="s", purpose="user_data", chunks=content())  # type: ignore[arg-type]
    shutil.rmtree(house.house.settings.home / "uploads", ignore_errors=True)
