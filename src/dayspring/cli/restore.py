"""`dayspring restore`: an installation out of a backup, into an empty data folder and an empty database."""

from pathlib import Path
from typing import Annotated

import typer

from dayspring.cli.backup import PassphraseFile, Reporter, passphrase_in, summary
from dayspring.cli.models import ProgressPrinter
from dayspring.cli.terminal import AsJson, Home, print_json, settings_for
from dayspring.server.backups.restoring import restore_backup

__all__ = ["restore"]


def restore(
    file: Annotated[Path, typer.Argument(help="A file made by 'dayspring backup'.")],
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Bring back what a backup holds. Nothing is changed unless the whole backup is sound and the target empty."""
    settings = settings_for(home)
    with ProgressPrinter() as printer:
        restored = restore_backup(
            settings, file, passphrase=passphrase_in(passphrase_file), progress=Reporter(printer, "unpack")
        )
    if as_json:
        print_json(summary(restored.manifest) | {"models_to_fetch": restored.waiting})
        return
    facts = summary(restored.manifest)
    print(f"Restored into {settings.home}: {facts['rows']} rows, {facts['files']} stored files; its books agree.")
    if restored.waiting:
        print(f"'dayspring serve' will fetch the files of: {', '.join(restored.waiting)}.")
