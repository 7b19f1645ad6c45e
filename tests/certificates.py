"""Certificates made on the spot, for tests of TLS, and a look at the one a server shows."""

import asyncio
import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Certificate", "make_certificate", "shown", "trusts_anybody"]


@dataclass(frozen=True)
class Certificate:
    cert: Path
    key: Path
    serial: int


def make_certificate(folder: Path, name: str = "server", *, days: int = 90, password: bytes = b"") -> Certificate:
    """A self-signed certificate for localhost and 127.0.0.1, valid until `days` from now; negative: expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    key_file.write_bytes(pem)
    key_file.chmod(0o600)
    return Certificate(cert_file, key_file, made.serial_number)


def trusts_anybody() -> ssl.SSLContext:
    """For a client that only looks."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def shown(port: int, context: ssl.SSLContext | None = None, name: str | None = None) -> int:
    """The serial number of the certificate that a client is shown."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context or trusts_anybody(), server_hostname=name or "127.0.0.1"
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der).serial_number
