"""The unit, the container file and the manifest: checked by their own tools, and held to our rules."""

import asyncio
import os
import re
import runpy
import shutil
import socket
import ssl
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from aiohttp import web

from certificates import make_certificate
from dayspring.core.settings import Settings

PACKAGING = Path(__file__).parents[2] / "packaging"
CONTAINERFILE = PACKAGING / "container" / "Containerfile"
HEALTHCHECK = PACKAGING / "container" / "healthcheck.py"
UNIT = PACKAGING / "systemd" / "dayspring.service"
MANIFEST = PACKAGING / "kubernetes" / "dayspring.yaml"
SECRET = re.compile(r"(?i)(password|token|secret|api_?key)\s*[=:]\s*['\"]?[A-Za-z0-9+/_-]{8,}")


class _Repeating(dict[str, Any]):
    """Keys of a unit may come several times; each counts."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self and isinstance(value, list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def unit() -> dict[str, list[str]]:
    parser = RawConfigParser(strict=False, dict_type=_Repeating)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return {key: value.split("\n") for key, value in parser["Service"].items()}


def test_the_unit_runs_as_nobody_and_writes_its_own_folder_only() -> None:
    found = unit()
    wanted = {
        "DynamicUser": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "NoNewPrivileges": "yes",
        "PrivateTmp": "yes", "StateDirectory": "dayspring", "StateDirectoryMode": "0700", "CapabilityBoundingSet": "",
        "RestrictSUIDSGID": "yes", "RestrictNamespaces": "yes", "SystemCallArchitectures": "native", "UMask": "0077",
    }  # fmt: skip
    assert {key: found[key] for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert "User" not in found
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert not [line for line in UNIT.read_text().splitlines() if SECRET.search(line)]


def test_the_units_words_are_known_to_systemd(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here: install systemd")
    text = UNIT.read_text().replace("/opt/dayspring/bin/dayspring", "/bin/true")
    (tmp_path / "dayspring.service").write_text(text)
    verified = subprocess.run(
        [program, "verify", "--man=no", tmp_path / "dayspring.service"], capture_output=True, text=True, check=False
    )
    assert "dayspring.service" not in verified.stderr, verified.stderr
    judged = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", "--no-pager", tmp_path / "dayspring.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout[-300:]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE))
    return [(line.split(" ")[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def test_the_container_file_passes_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run(
        [linter, "--failure-threshold=style", CONTAINERFILE], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


def test_the_container_keeps_our_rules() -> None:
    found = instructions()
    stages = [place for place, (word, _) in enumerate(found) if word == "FROM"]
    assert len(stages) == 2
    last = found[stages[-1] :]
    users = [value for word, value in last if word == "USER"]
    assert users == ["10001:10001"]
    assert [word for word, _ in last].index("USER") < [word for word, _ in last].index("ENTRYPOINT")
    assert [value for word, value in last if word == "HEALTHCHECK"]
    assert not [value for word, value in found if word in ("ADD", "MAINTAINER")]
    assert [value for word, value in found if word == "ENV" and "PIP_CONSTRAINT=/build/constraints.txt" in value]
    copied = [value.split(" ")[:-1] for word, value in found if word == "COPY" and "--from" not in value]
    for name in (name for names in copied for name in names):
        assert (PACKAGING.parent / name).exists(), name
        assert name not in (".", "./"), "the whole of a checkout may hold secrets"
    assert not SECRET.search(CONTAINERFILE.read_text())
    assert not [value for word, value in found if word == "ARG" and re.search(r"(?i)token|secret|password", value)]
    environment = " ".join(value for word, value in last if word == "ENV")
    assert "DAYSPRING_ALLOW_PLAIN_HTTP" not in environment, "whoever runs it says so"


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(status=200 if request.path == "/ai/healthz" else 503)


@pytest.mark.parametrize("tls", [True, False])
async def test_the_healthcheck_asks_the_server_that_is_there(
    tmp_path: Path, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("DAYSPRING_")]:
        monkeypatch.delenv(name)
    context = None
    if tls:
        made = make_certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.cert, made.key)
        monkeypatch.setenv("DAYSPRING_TLS_CERT", str(made.cert))
    app = web.Application()
    app.router.add_get("/{path:.*}", _healthz)
    runner = web.AppRunner(app)
    await runner.setup()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    main = runpy.run_path(str(HEALTHCHECK))["main"]
    monkeypatch.setenv("DAYSPRING_PORT", str(port))
    assert await asyncio.to_thread(main) == 1
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    assert await asyncio.to_thread(main) == 1
    monkeypatch.setenv("DAYSPRING_ROOT_PATH", "/ai")
    assert await asyncio.to_thread(main) == 0
    await runner.cleanup()


def resources() -> dict[str, dict[str, Any]]:
    return {found["kind"]: found for found in yaml.safe_load_all(MANIFEST.read_text())}


def test_the_manifest_is_valid_kubernetes() -> None:
    for found in resources().values():
        kubernetes_validate.validate(found, "1.36", strict=True)


def test_the_manifest_keeps_our_rules() -> None:
    found = resources()
    pod = found["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["terminationGracePeriodSeconds"] > Settings().shutdown_grace_s
    assert "Secret" not in found, "a secret in a file is one that is read"
    assert not SECRET.search(re.sub(r"(?m)^#.*$", "", MANIFEST.read_text()))
    claims = {claim["metadata"]["name"] for claim in found["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= claims | {
        volume["name"] for volume in pod["volumes"]
    }
    assert found["StatefulSet"]["spec"]["replicas"] == 1


def test_the_manifests_settings_are_settings() -> None:
    """They are read as the server reads them, and it starts with them."""
    data = resources()["ConfigMap"]["data"]
    assert Settings.unknown_names(data) == []
    made = Settings(**{name.removeprefix("DAYSPRING_").lower(): value for name, value in data.items()})
    assert made.allow_plain_http
    assert made.allowed_hosts
