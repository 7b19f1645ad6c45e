"""An id_token, believed only when everything about it is right (OpenID Connect Core 1.0, 3.1.3.7).

What holds: only asymmetric signatures are accepted, each with a key of its own family out of the provider's set, so
neither `none` nor a public key taken for a shared secret signs anything; issuer, audience, authorised party, expiry and
nonce are checked; nothing of a token that fails is used or told.
"""

import base64
from typing import Any

import msgspec

from dayspring.core.errors import SignInFailed

__all__ = ["Identity", "identity_of", "key_id_of"]

_FAMILIES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
"""Every algorithm accepted, and the kind of key it needs."""

_LEEWAY_S = 60
"""How far the provider's clock may be off."""
_LONGEST_TOKEN = 64 << 10
_MOST_KEYS = 64


class Identity(msgspec.Struct, frozen=True):
    """Who the provider says signed in."""

    issuer: str
    subject: str
    email: str
    """Empty unless the provider says that it is verified."""
    name: str


def identity_of(
    id_token: str, jwks: list[dict[str, Any]], *, issuer: str, client_id: str, nonce: str, now_s: int
) -> Identity:
    """Whom the token is about. Raises SignInFailed for any token that is not for us, now, from this provider."""
    # Loaded with the first such sign-in.
    from joserfc import jwt
    from joserfc.errors import JoseError

    claims = _signed(id_token, jwks)
    registry = jwt.JWTClaimsRegistry(
        now=now_s,
        leeway=_LEEWAY_S,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        registry.validate(claims)
    except JoseError:
        raise _refused() from None
    audience, party = claims["aud"], claims.get("azp")
    if (isinstance(audience, list) and len(audience) > 1 and party is None) or party not in (None, client_id):
        raise _refused()
    subject = claims["sub"]
    if not 1 <= len(subject) <= 255:
        raise _refused()
    email = claims.get("email") if claims.get("email_verified") is True else ""
    name = claims.get("name")
    return Identity(
        issuer, subject, email if isinstance(email, str) else "", name[:200] if isinstance(name, str) else ""
    )


def key_id_of(id_token: str) -> str | None:
    """Which key the token says it was signed with; nothing to be believed. Raises SignInFailed for no token."""
    kid = _header(id_token).get("kid")
    return kid if isinstance(kid, str) else None


def _signed(id_token: str, jwks: list[dict[str, Any]]) -> dict[str, Any]:
    """The claims, once a key of the provider's has signed them."""
    from joserfc import jwk, jwt
    from joserfc.errors import JoseError

    header = _header(id_token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in _FAMILIES:
        raise _refused()
    for found in jwks[:_MOST_KEYS]:
        fits = (
            found.get("kty") == _FAMILIES[algorithm]
            and found.get("use", "sig") == "sig"
            and found.get("alg", algorithm) == algorithm
            and (kid is None or found.get("kid") == kid)
        )
        if not fits:
            continue
        try:
            claims = jwt.decode(id_token, jwk.import_key(found), algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # another key may fit, where the token names none
        if isinstance(claims, dict):
            return claims
    raise _refused()


def _header(id_token: str) -> dict[str, Any]:
    parts = id_token.split(".")
    if len(parts) != 3 or len(id_token) > _LONGEST_TOKEN:
        raise _refused()
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, msgspec.DecodeError):
        raise _refused() from None
    return header if isinstance(header, dict) else {}


def _refused() -> SignInFailed:
    return SignInFailed("The identity provider's answer could not be verified", "Begin again.")
