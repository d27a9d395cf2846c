"""Hashing of the audit log by RFC 6962, section 2.1: leaves and nodes in separate domains."""

from hashlib import sha256

LEAF_PREFIX = b"\x00"


def leaf_hash(entry: bytes) -> bytes:
    """32 bytes: SHA-256(0x00 || entry)."""
    return sha256(LEAF_PREFIX + entry).digest()
