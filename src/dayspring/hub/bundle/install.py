"""Installs a bundle on a machine without a package index. Runs with nothing but Python's own library.

What holds: every file is held to the manifest before any of it is used, and a file that is missing, changed, a link or
not listed is named and refused; pip asks no index and holds each package to its hash again; Dayspring holds each
model's files to theirs. What it does not do: vouch for itself and the manifest. The SHA-256 of the whole bundle does.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20


def _stop(message: str) -> NoReturn:
    sys.stderr.write(f"dayspring: {message}\n")
    sys.exit(1)


def _say(message: str) -> None:
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


def _is_plain(name: object) -> bool:
    """Whether a name stays below the bundle's folder on every system."""
    if not isinstance(name, str) or not name or "\\" in name or ":" in name or len(name) > 1024:
        return False
    return name.isprintable() and all(part not in ("", ".", "..") for part in name.split("/"))


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if manifest["format"] != 1:
            _stop(f"{MANIFEST} was refused: it was made by another release. Use that release's installer.")
        for file in manifest["files"]:
            if not _is_plain(file["path"]) or not isinstance(file["size_bytes"], int):
                _stop(f"{file['path']!r} was refused: its name leaves the folder. Do not use this bundle.")
    except (OSError, ValueError, KeyError, TypeError):
        _stop(f"{MANIFEST} is missing or cannot be read. Unpack the bundle again.")
    found: dict[str, Any] = manifest
    return found


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Ends the program at the first file that is not what the manifest says."""
    listed = {file["path"]: file for file in manifest["files"]}
    for root, names, files in os.walk(folder):
        for name in [*names, *files]:
            path = Path(root) / name
            shown = path.relative_to(folder).as_posix()
            if path.is_symlink():
                _stop(f"{shown!r} was refused: it is a link. Do not use this bundle.")
            if name in files and shown not in listed and shown != MANIFEST:
                _stop(f"{shown!r} was refused: it is not listed in {MANIFEST}. Do not use this bundle.")
    for shown, file in listed.items():
        path = folder / shown
        if not path.is_file():
            _stop(f"{shown!r} is missing. Unpack the bundle again, or fetch it again.")
        if path.stat().st_size != file["size_bytes"] or _sha256(path) != file["sha256"]:
            _stop(f"{shown!r} was refused: it is not the file that was bundled. Fetch the bundle again.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _run(command: list[str], environment: dict[str, str], what: str) -> str:
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.stdout.write(done.stdout)
        _stop(f"{what} failed. What it said stands above.")
    return done.stdout


def _environment() -> dict[str, str]:
    """Without what would send pip or Python elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}


def _make_environment(folder: Path, into: Path) -> None:
    _say(f"Making a virtual environment in {into} ...")
    # Without pip: some systems' Python has none to copy. The bundle's own is run from its wheel.
    _run([sys.executable, "-I", "-m", "venv", "--without-pip", "--clear", str(into)], _environment(), "python -m venv")
    wheels = folder / "wheels"
    pip = next(iter(sorted(wheels.glob("pip-*.whl"))), None)
    if pip is None:
        _stop("The bundle has no pip. Make it again.")
    _say("Installing the packages ...")
    install = [
        str(into / "bin" / "python"), str(pip / "pip"), "--isolated", "--disable-pip-version-check", "install",
        "--quiet", "--no-index", "--no-cache-dir", "--only-binary=:all:", "--require-hashes", f"--find-links={wheels}",
        "--requirement", str(folder / "requirements.txt"),
    ]  # fmt: skip
    _run(install, _environment(), "pip install")


def _add_models(folder: Path, into: Path, manifest: dict[str, Any], options: argparse.Namespace) -> None:
    dayspring = [str(into / "bin" / "dayspring"), "models"]
    home = ["--home", options.home] if options.home else []
    try:
        models = [each["model"] for each in manifest["models"]]
        wanted = [(str(model["id"]), str(model.get("base", ""))) for model in models]
    except (KeyError, TypeError, AttributeError):
        _stop(f"{MANIFEST} is damaged. Fetch the bundle again.")
    terms = ["--accept-licence", options.accept_licence] if options.accept_licence else []
    here = _here(dayspring, home)
    # A base before the adapters that change it.
    for name, base in sorted(wanted, key=lambda each: bool(each[1])):
        if name in here:
            _say(f"{name} is here already.")
            continue
        _say(f"Adding {name} ...")
        host = ["--base", base] if base else []
        add = [*dayspring, "add", f"bundle:{folder}#{name}", "--id", name, "--yes", *host, *terms, *home]
        _say(_run(add, _environment(), f"adding {name}").splitlines()[-1])


def _here(dayspring: list[str], home: list[str]) -> set[str]:
    """Ids of the models that are there; nothing where there is no installation yet."""
    listing = [*dayspring, "list", "--json", *home]
    done = subprocess.run(listing, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
    try:
        return {str(model["id"]) for model in json.loads(done.stdout)} if done.returncode == 0 else set()
    except (ValueError, KeyError, TypeError):
        return set()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="install.sh", description="Install Dayspring from this bundle.")
    parser.add_argument("--into", default="dayspring", help="folder of the virtual environment (default: ./dayspring)")
    parser.add_argument("--home", default="", help="data folder (default: DAYSPRING_HOME or ~/.dayspring)")
    parser.add_argument("--accept-licence", metavar="WHO", default="", help="who accepts the models' licences")
    parser.add_argument("--no-models", action="store_true", help="only install the packages")
    parser.add_argument("--verify", action="store_true", help="only check the files")
    options = parser.parse_args(arguments)
    folder = Path(__file__).resolve().parent
    manifest = _read_manifest(folder)
    _say("Checking every file ...")
    verify(folder, manifest)
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if options.verify:
        _say("Every file is what was bundled.")
        return
    if manifest.get("python") != running:
        _stop(
            f"The bundle is for Python {manifest.get('python')} and this is {running}. Name the right one: "
            f"PYTHON=python{manifest.get('python')} sh install.sh"
        )
    into = Path(options.into).absolute()
    if folder == into or folder in into.parents:
        _stop("--into is inside the bundle. Choose another folder.")
    if into.exists() and not (into / "pyvenv.cfg").exists() and any(into.iterdir()):
        _stop(f"{into} is there and is no virtual environment. Choose another with --into.")
    _make_environment(folder, into)
    if not options.no_models:
        _add_models(folder, into, manifest, options)
    home = f" --home {options.home}" if options.home else ""
    _say(f"Done. Start it with: {into / 'bin' / 'dayspring'} serve{home}")


if __name__ == "__main__":
    main(sys.argv[1:])
