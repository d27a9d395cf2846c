"""The data keys of recorded content, one a subject and day, unwrapped. Erasing one erases every copy under it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from audit import content
from audit.models import ContentKey

KEPT_SECONDS = 60
KEPT_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class _KeptKey:
    key: bytes
    until: float


_kept_keys: dict[int, _KeptKey] = {}


def data_key_keep(key_id: int, key: bytes) -> None:
    """Spares this process the look-up for KEPT_SECONDS; an erased key is of use here for as long, to the hot stores.

    Content is never recorded under a kept key: recording reads the key's row.
    """
    if len(_kept_keys) >= KEPT_KEYS:
        _kept_keys.clear()
    _kept_keys[key_id] = _KeptKey(key, time.monotonic() + KEPT_SECONDS)


def data_keys_forget(key_ids: Iterable[int]) -> None:
    """What was erased is of no more use in this process at once, elsewhere after KEPT_SECONDS."""
    for key_id in key_ids:
        _kept_keys.pop(key_id, None)


def data_key(key_id: int) -> bytes:
    """The unwrapped data key. Raises content.ContentUnreadable when it has been erased."""
    kept = _kept_keys.get(key_id)
    if kept is not None and time.monotonic() < kept.until:
        return kept.key
    row = ContentKey.objects.filter(pk=key_id).first()
    if row is None:
        raise content.ContentUnreadable("the data key has been erased")
    key = data_key_of(row)
    data_key_keep(key_id, key)
    return key


def data_key_of(row: ContentKey) -> bytes:
    return content.key_unwrap(bytes(row.wrapped), row.wrapped_by, key_context(row.subject_ref, row.day))


def key_context(subject_ref: str, day: date) -> bytes:
    """Binds a wrapped data key to its subject and day."""
    return f"key:{subject_ref}:{day}".encode()
