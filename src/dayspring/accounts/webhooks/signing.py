"""Signatures of Standard Webhooks (github.com/standard-webhooks/standard-webhooks), as OpenAI's client verifies them.

What holds: there is no message without a signature. A secret that is missing or too short to be one is refused, never
taken for an empty key.
"""

import base64
import binascii
import hashlib
import hmac
import secrets

from dayspring.core.errors import Refused

__all__ = ["headers_for", "hint_of", "new_secret"]

_PREFIX = "whsec_"
_FEWEST_BYTES = 24
"""The standard's."""


def new_secret() -> str:
    """256 random bits."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def hint_of(secret: str) -> str:
    """What may be shown of it: how it ends."""
    return f"{_PREFIX}…{secret[-5:]}"


def headers_for(message_id: str, at_s: int, body: str, signing_secrets: list[str]) -> dict[str, str]:
    """The three headers; the signature is made with each secret, so that a rotated one still verifies.

    Raises Refused for a secret that is none.
    """
    signed = f"{message_id}.{at_s}.{body}".encode()
    signatures = [
        "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
        for secret in signing_secrets
    ]
    if not signatures:
        raise _unsigned()
    return {"webhook-id": message_id, "webhook-timestamp": str(at_s), "webhook-signature": " ".join(signatures)}


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise _unsigned() from None
    if not secret.startswith(_PREFIX) or len(key) < _FEWEST_BYTES:
        raise _unsigned()
    return key


def _unsigned() -> Refused:
    return Refused(
        file="the webhook", rule="it has no signing secret", remedy="Rotate the endpoint's secret, which makes one."
    )
