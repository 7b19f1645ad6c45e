"""Passwords: argon2id, computed off the event loop, a few at a time.

Parameters are RFC 9106's second recommendation (64 MiB, 3 passes, 4 lanes), as argon2-cffi has them by default. What
holds: an unknown user takes as long as a wrong password; a password is at most `LONGEST` characters before it is
hashed; at most `_AT_ONCE` hashes are computed at a time and `_WAITING` wait, so strangers cannot fill the memory.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from dayspring.core.errors import Busy, InvalidRequest

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["LONGEST", "SHORTEST", "Passwords", "check_password"]

T = TypeVar("T")

SHORTEST, LONGEST = 12, 1024
"""Characters. The lower bound is between NIST SP 800-63B-4's 8 and the 15 it asks for where nothing else is asked."""

_AT_ONCE = 2
_WAITING = 32


def check_password(password: str, *forbidden: str) -> None:
    """Raises InvalidRequest for one that is too short, too long, or one of the `forbidden` words."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidRequest(
            f"A password has {SHORTEST} to {LONGEST} characters. Choose another; a few words will do.", param="password"
        )
    if password.casefold() in {word.casefold() for word in forbidden} or len(set(password)) < 4:
        raise InvalidRequest("This password is too easy to guess. Choose another.", param="password")


@cache
def _hasher() -> "PasswordHasher":
    # Loaded with the first sign-in: most servers see none for hours.
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobody() -> str:
    """A hash that no password fits, for users there are not."""
    return _hasher().hash("\0 no password is this one \0")


def _matches(encoded: str | None, password: str) -> tuple[bool, str | None]:
    """Whether it fits, and a new hash where the old one was made with other parameters."""
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        _hasher().verify(encoded or _nobody(), password)
    except (Argon2Error, InvalidHashError):
        return False, None
    if encoded is None:
        return False, None
    return True, _hasher().hash(password) if _hasher().check_needs_rehash(encoded) else None


class Passwords:
    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def hashed(self, password: str) -> str:
        """The encoded hash."""
        return await self._run(lambda: _hasher().hash(password))

    async def matches(self, encoded: str | None, password: str) -> tuple[bool, str | None]:
        """Whether the password fits, and a better hash to keep, if there is one. None fits nothing, as slowly."""
        if len(password) > LONGEST:
            password = ""
        return await self._run(lambda: _matches(encoded, password))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _WAITING:
            raise Busy("Too many people are signing in", retry_after_s=2)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="passwords")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
