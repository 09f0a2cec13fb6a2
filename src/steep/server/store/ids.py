"""Names of new things, and secrets that are kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: none is taken for another


def new_id(kind: str) -> str:
    """A name such as `job-7f3k2m9q4t8w`: 60 random bits, safe in paths and URLs."""
    return f"{kind}-{''.join(secrets.choice(_LETTERS) for _ in range(12))}"


def new_token(prefix: str = "") -> str:
    """A secret of 32 random bytes, as text."""
    return prefix + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """What is stored of a secret. It is random enough to need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_token(token: str, stored: str) -> bool:
    """Whether this is the secret of which that was stored; takes as long either way."""
    return hmac.compare_digest(hash_of(token), stored)
