"""A file encrypted with a passphrase, written and read as a stream.

AES-256-GCM over chunks of 1 MiB; the key is made from the passphrase by scrypt (RFC 7914; N 2^17, r 8, p 1: 128 MiB and
about half a second). Each chunk's nonce is a random prefix, the chunk's number and whether it is the last, as in
STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption, CRYPTO 2015).
What holds: a chunk that is changed, moved, left out or cut off, and a file that ends early, is told before any byte of
that chunk is used.
"""

import os
import struct
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dayspring.core.errors import InvalidRequest, Refused

__all__ = ["MAGIC", "Opener", "Sealer"]

MAGIC: Final = b"dayspring-sealed-1\n"
_CHUNK_BYTES: Final = 1 << 20
_TAG_BYTES: Final = 16
_SALT_BYTES: Final = 16
_PREFIX_BYTES: Final = 7
_COST: Final = 2**17
_SHORTEST: Final = 8


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(passphrase.encode()))


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + struct.pack(">I?", number, last)


class Sealer:
    """What is written is encrypted into `stream`; `close` ends it, and leaves `stream` open."""

    def __init__(self, stream: BinaryIO, passphrase: str) -> None:
        if len(passphrase) < _SHORTEST:
            raise InvalidRequest(f"A passphrase has at least {_SHORTEST} characters. Choose a longer one.")
        salt, self._prefix = os.urandom(_SALT_BYTES), os.urandom(_PREFIX_BYTES)
        self._cipher = _cipher(passphrase, salt)
        self._stream = stream
        self._number = 0
        self._held = bytearray()
        stream.write(MAGIC + salt + self._prefix)

    def write(self, data: bytes) -> None:
        self._held += data
        while len(self._held) > _CHUNK_BYTES:  # the last chunk is told from the others, so one is always held
            self._seal(bytes(self._held[:_CHUNK_BYTES]), last=False)
            del self._held[:_CHUNK_BYTES]

    def close(self) -> None:
        self._seal(bytes(self._held), last=True)

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._stream.write(self._cipher.encrypt(_nonce(self._prefix, self._number, last), chunk, None))
        self._number += 1


class Opener:
    """Reads what a Sealer wrote, its MAGIC read already. Raises Refused for a wrong passphrase or any damage."""

    def __init__(self, stream: BinaryIO, passphrase: str) -> None:
        self._stream = stream
        head = stream.read(_SALT_BYTES + _PREFIX_BYTES)
        self._prefix = head[_SALT_BYTES:]
        self._cipher = _cipher(passphrase, head[:_SALT_BYTES])
        self._number = 0
        self._open = bytearray()
        self._next = stream.read(_CHUNK_BYTES + _TAG_BYTES)
        self._ended = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        while len(self._open) < size and not self._ended:
            following = self._stream.read(_CHUNK_BYTES + _TAG_BYTES)
            nonce = _nonce(self._prefix, self._number, last=not following)
            try:
                self._open += self._cipher.decrypt(nonce, self._next, None)
            except (InvalidTag, ValueError):
                raise _refused(self._number) from None
            self._number += 1
            self._next = following
            self._ended = not following
        taken = bytes(self._open[:size])
        del self._open[:size]
        return taken


def _refused(number: int) -> Refused:
    rule = "the passphrase is another one, or it is damaged" if number == 0 else "it is damaged or cut off"
    return Refused(file="the backup", rule=rule, remedy="Check the passphrase, or use another backup.")
