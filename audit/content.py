"""Encryption of what people asked and were told: AES-256-GCM under a key per subject and day.

The data key is wrapped by the operator's newest key in CONTENT_KEYS (`id:base64 of 32 bytes`, comma separated, newest
first); older ones still unwrap. Deleting the data key is what makes a day of a subject unreadable for good.
"""

import base64
import secrets
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from onesource.env import EnvError

NONCE_BYTES = 12
KEY_BYTES = 32


class ContentUnreadable(Exception):
    """The ciphertext, its context or its key is not what it was when the content was sealed."""


@dataclass(frozen=True, slots=True, eq=False)
class Keyring:
    """Wrapping keys by id; `active` wraps."""

    active: str
    keys: dict[str, bytes] = field(repr=False)


@lru_cache(maxsize=4)
def keyring_parse(value: str) -> Keyring:
    keys: dict[str, bytes] = {}
    for number, part in enumerate(value.split(","), 1):
        key_id, separator, encoded = part.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        if not separator or not key_id or len(key_id) > 40 or len(key) != KEY_BYTES or key_id in keys:
            raise EnvError("CONTENT_KEYS", f"entry {number} must be a new id, a colon and the base64 of 32 bytes")
        keys[key_id] = key
    return Keyring(next(iter(keys)), keys)


def signing_key() -> bytes:
    """The 32 bytes of AUDIT_SIGNING_KEY (an Ed25519 seed). Raises EnvError."""
    try:
        key = base64.b64decode(settings.AUDIT_SIGNING_KEY, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise EnvError("AUDIT_SIGNING_KEY", "must be the base64 of 32 bytes")
    return key


def keyring() -> Keyring:
    return keyring_parse(settings.CONTENT_KEYS)


def key_make(context: bytes) -> tuple[bytes, str, bytes]:
    """A fresh data key, the id of the key that wraps it, and the wrapped form (nonce || ciphertext)."""
    ring = keyring()
    key = secrets.token_bytes(KEY_BYTES)
    return key, ring.active, seal(key, ring.keys[ring.active], context)


def key_unwrap(wrapped: bytes, key_id: str, context: bytes) -> bytes:
    key = keyring().keys.get(key_id)
    if key is None:
        raise ContentUnreadable(f"CONTENT_KEYS has no key {key_id!r}, which wraps this content")
    return unseal(wrapped, key, context)


def seal(plaintext: bytes, key: bytes, context: bytes) -> bytes:
    """nonce || ciphertext || tag; `context` is authenticated but not stored."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def unseal(sealed: bytes, key: bytes, context: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
    except (InvalidTag, ValueError):
        raise ContentUnreadable("the content does not decrypt under its key and context") from None
