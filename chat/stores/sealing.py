"""Messages as the hot stores hold them: encrypted, so that a dump shows no text.

The key is derived from the session and the data key of the turn's recorded content (one a subject and day): when that
is erased, no copy anywhere can be read any more. A message that belongs to no recorded turn is under an operator's key
in CONTENT_KEYS. The id of either stands in front. The ciphertext is bound to its session and seq: moved elsewhere it
does not decrypt.
"""

import base64
import json
import uuid

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from audit import content
from audit.keys import data_key
from chat.stores.base import Message

# Before the id of a data key; an operator's key has the name that CONTENT_KEYS gives it.
DATA_KEY = "#"


def _session_key(session_id: uuid.UUID, secret: bytes) -> bytes:
    # Derived anew each time: what keeps it keeps the data key, past the minute that audit.keys gives an erased one.
    return HKDF(hashes.SHA256(), content.KEY_BYTES, None, b"onesource:hot:" + session_id.bytes).derive(secret)


def _context(session_id: uuid.UUID, seq: int) -> bytes:
    return session_id.bytes + seq.to_bytes(8, "big")


def message_seal(message: Message, session_id: uuid.UUID, expires_at: float) -> str:
    """`key id:base64`. Raises content.ContentUnreadable when the message's data key is gone."""
    key_id = content.keyring().active if message.key_id is None else f"{DATA_KEY}{message.key_id}"
    plaintext = json.dumps([message.role, message.text, expires_at], ensure_ascii=False).encode()
    key = _session_key(session_id, _secret(key_id))
    sealed = content.seal(plaintext, key, _context(session_id, message.seq))
    return f"{key_id}:{base64.b64encode(sealed).decode()}"


def _secret(key_id: str) -> bytes:
    if key_id.startswith(DATA_KEY):
        return data_key(int(key_id.removeprefix(DATA_KEY)))
    return content.keyring().keys[key_id]


def message_open(sealed: str | bytes, session_id: uuid.UUID, seq: int) -> Message:
    """Raises content.ContentUnreadable: a key that is no longer listed, another session's or seq's, or garbage."""
    try:
        key_id, _, encoded = (sealed.decode() if isinstance(sealed, bytes) else sealed).partition(":")
        key = _session_key(session_id, _secret(key_id))
        opened = content.unseal(base64.b64decode(encoded), key, _context(session_id, seq))
        role, text, expires_at = json.loads(opened)
    except (KeyError, ValueError, OverflowError) as error:
        raise content.ContentUnreadable("no message that was sealed here") from error
    return Message(seq, role, text, expires_at, int(key_id[1:]) if key_id.startswith(DATA_KEY) else None)


def messages_open(found: list[tuple[int, str | bytes]], session_id: uuid.UUID, now: float) -> list[Message]:
    """Those that can be read and have not expired at `now`; what is left out makes a gap, which its reader sees."""
    opened = []
    for seq, sealed in found:
        try:
            message = message_open(sealed, session_id, seq)
        except content.ContentUnreadable:
            continue
        if message.expires_at is None or message.expires_at > now:
            opened.append(message)
    return opened
