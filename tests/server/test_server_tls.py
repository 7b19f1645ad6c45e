"""The certificate: what is refused at the start, what a renewal changes, what a broken one does not."""

import asyncio
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certificates import make_certificate, shown, trusts_anybody
from dayspring.contracts.clock import SystemClock
from dayspring.core.errors import Conflict
from dayspring.server.tls import Certificate

CLOCK = SystemClock()


@asynccontextmanager
async def serving(certificate: Certificate) -> AsyncIterator[int]:
    async def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(end, "127.0.0.1", 0, ssl=certificate.context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_client_that_trusts_the_certificate_is_served(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    async with serving(Certificate(made.cert, made.key, CLOCK)) as port:
        assert await shown(port, ssl.create_default_context(cafile=made.cert), "localhost") == made.serial


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_renewed_certificate_serves_the_next_connection(tmp_path: Path, name: str) -> None:
    """With and without a name in the client's hello: an address is none."""
    made, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    certificate = Certificate(made.cert, made.key, CLOCK)
    async with serving(certificate) as port:
        assert await shown(port, name=name) == made.serial
        assert not certificate.renew()
        other.cert.replace(made.cert)
        other.key.replace(made.key)
        assert certificate.renew()
        assert await shown(port, name=name) == other.serial
        assert not certificate.renew()


async def test_a_renewal_half_written_leaves_the_old_one_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    certificate = Certificate(made.cert, made.key, CLOCK)
    async with serving(certificate) as port:
        shutil.copy(other.cert, made.cert)
        with caplog.at_level(logging.ERROR):
            assert not certificate.renew()
            assert not certificate.renew()
        assert len(caplog.records) == 1
        assert await shown(port) == made.serial
        made.key.unlink()
        assert not certificate.renew()
        shutil.copy(other.key, made.key)
        assert certificate.renew()
        assert await shown(port) == other.serial


async def test_an_old_version_of_tls_is_refused(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    old = trusts_anybody()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(Certificate(made.cert, made.key, CLOCK)) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown(port, old)


def test_each_fault_of_the_files_is_a_sentence_of_its_own(tmp_path: Path) -> None:
    good, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    expired = make_certificate(tmp_path, "expired", days=-1)
    hidden = make_certificate(tmp_path, "hidden", password=b"word")
    text = tmp_path / "text"
    text.write_text("no certificate")
    cases = [
        (tmp_path / "none", good.key, "cannot be read"),
        (good.cert, tmp_path / "none", "cannot be read"),
        (tmp_path, good.key, "cannot be read"),
        (good.cert, other.key, "not the key of the certificate"),
        (expired.cert, expired.key, "expired on"),
        (hidden.cert, hidden.key, "is encrypted"),
        (text, good.key, "no certificate in PEM form"),
        (good.cert, text, "no private key in PEM form"),
        (good.key, good.cert, "no certificate in PEM form"),
    ]
    for cert, key, reason in cases:
        with pytest.raises(Conflict, match=reason) as caught:
            Certificate(cert, key, CLOCK)
        assert caught.value.message.endswith(".")


def test_a_certificate_that_expires_soon_is_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soon, late = make_certificate(tmp_path, days=3), make_certificate(tmp_path, "late")
    Certificate(late.cert, late.key, CLOCK)
    assert not caplog.records
    Certificate(soon.cert, soon.key, CLOCK)
    assert "expires soon" in caplog.text
