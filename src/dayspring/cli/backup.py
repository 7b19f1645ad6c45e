"""`dayspring backup`: one file with everything, made beside the running server; and whether such a file is sound."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from dayspring.cli.models import ProgressPrinter
from dayspring.cli.terminal import AsJson, Home, print_json, settings_for, warn
from dayspring.core.errors import NotFound
from dayspring.hub.plan import Progress
from dayspring.server.backups.checking import check_backup
from dayspring.server.backups.making import make_backup
from dayspring.server.backups.manifest import Manifest

__all__ = ["PassphraseFile", "Reporter", "backup", "passphrase_in", "summary"]

PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="A file whose first line encrypts or opens the backup."),
]


def backup(
    file: Annotated[Path, typer.Argument(help="The backup: to be made, or with --verify to be read.")],
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Put in models that can be fetched again, or leave them out.")
    ] = True,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read a backup through instead, and say what is in it.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Put the whole installation into one file, while its server runs. Keep the file secret: it holds its keys."""
    passphrase = passphrase_in(passphrase_file)
    with ProgressPrinter() as printer:
        if verify:
            manifest = check_backup(file, passphrase, Reporter(printer, "verify"))
        else:
            manifest = make_backup(
                settings_for(home), file, models=models, passphrase=passphrase, progress=Reporter(printer, "pack")
            )
    for name in manifest.skipped:
        warn(f"{name} in the data folder is no part of the backup: it is large, or oddly named")
    facts = summary(manifest)
    if as_json:
        print_json(facts)
        return
    state = "is sound" if verify else "is made"
    print(f"{file} {state}: {facts['rows']} rows, {facts['files']} stored files, {facts['bytes']} bytes.")
    if manifest.left_out:
        print(f"{len(manifest.left_out)} files of models are not in it; a restored server fetches them again.")


def passphrase_in(file: Path | None) -> str:
    """The first line; empty for no file. Raises NotFound for one that cannot be read."""
    if file is None:
        return ""
    try:
        with file.open(encoding="utf-8") as stream:
            return stream.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise NotFound("readable passphrase file", str(file), "Check its path and its rights.") from None


class Reporter:
    """What a backup tells, as the printer shows it."""

    def __init__(self, printer: ProgressPrinter, phase: Literal["pack", "verify", "unpack"]) -> None:
        self._printer = printer
        self._phase = phase

    def __call__(self, step: str, done_bytes: int, total_bytes: int) -> None:
        self._printer.show(Progress(self._phase, "backup", step, done_bytes, total_bytes))


def summary(manifest: Manifest) -> dict[str, object]:
    """For people and programs."""
    header = manifest.header
    made_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(header.created_at_ns // 10**9))
    return {
        "made_at": made_at,
        "version": header.version,
        "revision": header.revision,
        "database": header.dialect,
        "rows": manifest.rows,
        "files": manifest.blobs,
        "bytes": manifest.size_bytes,
        "left_out": len(manifest.left_out),
        "skipped": manifest.skipped,
    }
