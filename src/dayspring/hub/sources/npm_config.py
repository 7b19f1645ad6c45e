"""Which registry npm would use here, and with which token, read from npm's own environment and files.

Order as npm documents it (docs.npmjs.com, npmrc): environment, the user's file, the machine's. A project's file is not
read: the folder that a server happens to start in must not choose where models come from. The default registry is
npm's own constant, asked of npm, so that this package names no host.
"""

import base64
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from dayspring.core.environment import child_environment
from dayspring.core.errors import Unavailable
from dayspring.core.settings import Settings

__all__ = ["NpmConfig", "npm_config"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ASK_S = 20.0


class NpmConfig(msgspec.Struct, frozen=True):
    values: dict[str, str]
    """Keys of npm's files as they are written there, later files overriding earlier ones."""
    chosen: str = ""
    """The operator's own registry; scopes of npm's files are not asked then."""
    token: str = ""
    """For that registry."""

    @property
    def certificates(self) -> str:
        """A file of certificate authorities; empty for the system's."""
        return self.values.get("cafile", "")

    def registry(self, package: str) -> str:
        """The registry of a package, without a slash at its end. Raises Unavailable where nothing tells one."""
        scope = package.partition("/")[0] if package.startswith("@") else ""
        found = self.chosen or self.values.get(f"{scope}:registry", "") or self.values.get("registry", "")
        return (found or _default_registry(shutil.which("npm") or "")).rstrip("/")

    def secret_for(self, url: str) -> dict[str, str]:
        """The header for an address, from the entry for the longest part of it, as npm looks one up."""
        if self.chosen and self.token:
            inside = url.startswith(self.chosen.rstrip("/") + "/")
            return {"Authorization": f"Bearer {self.token}"} if inside else {}
        place = _without_scheme(url)
        while "/" in place[2:]:
            place = place[: place.rstrip("/").rindex("/") + 1]
            if token := self.values.get(f"{place}:_authToken") or self.values.get(f"{place.rstrip('/')}:_authToken"):
                return {"Authorization": f"Bearer {token}"}
            if pair := self._pair(place):
                return {"Authorization": f"Basic {pair}"}
        return {}

    def _pair(self, place: str) -> str:
        """Name and password in base 64, from either way npm writes them."""
        if pair := self.values.get(f"{place}:_auth"):
            return pair
        name, hidden = self.values.get(f"{place}:username"), self.values.get(f"{place}:_password")
        if not name or not hidden:
            return ""
        try:
            return base64.b64encode(f"{name}:".encode() + base64.b64decode(hidden)).decode()
        except ValueError:
            return ""


def npm_config(settings: Settings) -> NpmConfig:
    """What npm is configured with; with DAYSPRING_NPM_REGISTRY, that one registry instead."""
    values: dict[str, str] = {}
    for file in _files():
        values.update(_read(file))
    for name, value in os.environ.items():
        key = name.lower()
        if key in ("npm_config_registry", "npm_config_cafile") and value:
            values[key.removeprefix("npm_config_")] = value
    token = settings.npm_token.get_secret_value()
    return NpmConfig(values, settings.npm_registry, token)


def _files() -> list[Path]:
    """Machine, user: later ones win."""
    environment = {name.lower(): value for name, value in os.environ.items()}
    home = Path(os.environ.get("HOME") or "~").expanduser()
    node = shutil.which("node")
    machine = environment.get("npm_config_globalconfig", "")
    if not machine and node:
        machine = str(Path(node).resolve().parent.parent / "etc" / "npmrc")
    user = environment.get("npm_config_userconfig", "") or str(home / ".npmrc")
    return [Path(file) for file in (machine, user) if file]


def _read(file: Path) -> dict[str, str]:
    """`key = value` lines of an npmrc, `${NAME}` in a value replaced from the environment."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", ";")):
            plain = value.strip().strip("\"'")
            found[key.strip()] = _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), plain)
    return found


@cache
def _default_registry(npm: str) -> str:
    """npm's constant. Raises Unavailable where npm is not installed."""
    url = ""
    if npm:
        ask = [npm, "config", "get", "registry"]
        try:
            done = subprocess.run(  # noqa: S603 - npm itself, with fixed words
                ask, capture_output=True, text=True, timeout=_ASK_S, check=False, cwd="/", env=child_environment()
            )
            url = done.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            url = ""
    if not urlsplit(url).hostname:
        raise Unavailable(
            "No npm registry is configured and npm is not installed to ask for its default",
            "Set DAYSPRING_NPM_REGISTRY to a registry's address.",
        )
    return url


def _without_scheme(url: str) -> str:
    """`//host:port/path`, as npm's files key their secrets."""
    parts = urlsplit(url)
    return f"//{parts.netloc.rpartition('@')[2]}{parts.path}"
