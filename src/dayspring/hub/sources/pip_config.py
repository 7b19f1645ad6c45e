"""Which package index pip would use here, read from pip's own environment, files and default.

Order of precedence as pip documents it: environment, then the files of the environment, user and machine; the section
of a command over `[global]`. The default index is pip's own constant, so that this package names no host.
"""

import configparser
import importlib
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from dayspring.core.errors import Unavailable

__all__ = ["PipConfig", "pip_config"]


class PipConfig(msgspec.Struct, frozen=True):
    indexes: tuple[str, ...] = ()
    """Simple-API addresses in order; may hold credentials."""
    find_links: tuple[str, ...] = ()
    """Folders, or pages of links."""
    trusted_hosts: frozenset[str] = frozenset()
    """Hosts that may be asked over plain HTTP."""
    certificates: str = ""
    """A file of certificate authorities."""


def pip_config(package_index: str = "") -> PipConfig:
    """What pip is configured with; with `package_index`, that one index instead."""
    values = {**_from_files(), **_from_environment()}
    trusted = frozenset(values.get("trusted-host", "").split())
    certificates = values.get("cert", "")
    if package_index:
        return PipConfig((package_index,), (), trusted, certificates)
    indexes = values.get("extra-index-url", "").split()
    if values.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
        indexes.insert(0, values.get("index-url") or _default_index())
    else:
        indexes = []
    return PipConfig(tuple(indexes), tuple(values.get("find-links", "").split()), trusted, certificates)


def _from_environment() -> dict[str, str]:
    prefix = "PIP_"
    return {
        name.removeprefix(prefix).lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and value
    }


def _from_files() -> dict[str, str]:
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return {}
    values: dict[str, str] = {}
    for file in [*_files(), *([Path(named)] if named else [])]:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        for section in ("global", "install", "download"):
            if parser.has_section(section):
                values.update({key.lower().replace("_", "-"): value for key, value in parser.items(section) if value})
    return values


def _files() -> list[Path]:
    """Machine, user, environment: later ones win."""
    home = Path(os.environ.get("HOME") or "~").expanduser()
    if sys.platform == "darwin":
        machine = [Path("/Library/Application Support/pip/pip.conf")]
        user = [
            home / ".pip/pip.conf",
            home / "Library/Application Support/pip/pip.conf",
            home / ".config/pip/pip.conf",
        ]
    else:
        shared = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
        machine = [*(Path(folder) / "pip/pip.conf" for folder in shared.split(":")), Path("/etc/pip.conf")]
        own = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        user = [home / ".pip/pip.conf", own / "pip/pip.conf"]
    return [*machine, *user, Path(sys.prefix) / "pip.conf"]


def _default_index() -> str:
    """pip's constant. The module is pip's own and not part of its interface, so its absence is an answer too."""
    try:
        url = str(importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError):
        url = ""
    if not urlsplit(url).hostname:
        raise Unavailable(
            "No package index is configured and pip is not installed to ask for its default",
            "Set DAYSPRING_PACKAGE_INDEX to the address of an index's simple API.",
        )
    return url
