"""TLS of the server: its certificate, checked before it is used and renewed without a restart.

What holds: TLS 1.2 or newer; a file that is missing, encrypted, expired or of another key is one plain sentence at the
start; a renewal that is broken, or half written, leaves the certificate in use in place and is tried again.
What it does not do: get certificates. An ACME client writes the files; this reads them when they change.
"""

import logging
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, DayspringError

__all__ = ["Certificate", "load"]

log = logging.getLogger(__name__)

_SOON = timedelta(days=14)
"""When a certificate that is about to expire is spoken of at each start and renewal."""

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """The server's certificate and key, as they are on disk now. `context` is for the listener, for good."""

    def __init__(self, cert: Path, key: Path, clock: Clock) -> None:
        """Raises Conflict with what is wrong with the files."""
        self._cert, self._key, self._clock = cert, key, clock
        self._stamp = self._look()
        self._current = load(cert, key, clock)
        self._told = ""
        self.context = _context()
        self.context.load_cert_chain(cert, key)
        # Called in every handshake, with a name or without: a renewed certificate serves the next connection, and a
        # renewal may be of another kind of key, which loading it beside the old one would not replace.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def renew(self, *, asked: bool = False) -> bool:
        """Takes the files up when they have changed, or were `asked` to be read. Whether a new one is in use."""
        try:
            stamp = self._look()
            if stamp == self._stamp and not asked:
                return False
            self._current = load(self._cert, self._key, self._clock)
        except DayspringError as error:
            if asked or error.message != self._told:
                log.error("the renewed certificate is not used, the old one is", extra={"reason": error.message})
            self._told = error.message
            return False
        self._stamp, self._told = stamp, ""
        log.info("the certificate was renewed")
        return True

    def _look(self) -> Stamp:
        try:
            seen = [os.stat(path) for path in (self._cert, self._key)]  # noqa: PTH116 - follows a renewed link
        except OSError as error:
            raise _unusable(Path(error.filename or self._cert), f"cannot be read ({error.strerror})") from None
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in seen)


def load(cert: Path, key: Path, clock: Clock) -> ssl.SSLContext:
    """A context that serves them. Raises Conflict."""
    try:
        chain = cert.read_bytes()
    except OSError as error:
        raise _unusable(cert, f"cannot be read ({error.strerror})") from None
    _check_time(cert, chain, clock)
    try:
        secret = key.read_bytes()
    except OSError as error:
        raise _unusable(key, f"cannot be read ({error.strerror})") from None
    if b"ENCRYPTED" in secret:
        raise _unusable(key, "is encrypted", "Write it without a password, for this server's user alone.")
    if b"PRIVATE KEY" not in secret:
        raise _unusable(key, "holds no private key in PEM form")
    context = _context()
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise _unusable(key, f"is not the key of the certificate in {str(cert)!r}") from None
        raise _unusable(key, "cannot be used with the certificate") from None
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; those of 1.3 are all good
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_time(path: Path, chain: bytes, clock: Clock) -> None:
    from cryptography.x509 import load_pem_x509_certificates  # 10 MB that only TLS needs

    try:
        leaf = load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError):
        raise _unusable(path, "holds no certificate in PEM form") from None
    now = datetime.fromtimestamp(clock.time_ns() / 1e9, UTC)
    if leaf.not_valid_after_utc < now:
        raise _unusable(path, f"expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", "Renew it.")
    if leaf.not_valid_before_utc > now:
        raise _unusable(path, f"is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC", "Check the clock.")
    if leaf.not_valid_after_utc < now + _SOON:
        log.warning("the certificate expires soon", extra={"expires": leaf.not_valid_after_utc.isoformat()})


def _unusable(path: Path, reason: str, remedy: str = "Check DAYSPRING_TLS_CERT and DAYSPRING_TLS_KEY.") -> Conflict:
    return Conflict(f"The TLS file {str(path)!r} {reason}", remedy)
