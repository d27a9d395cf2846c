"""Whose signature stands under a checkpoint, and whose is believed.

Trust comes from the configuration: AUDIT_SIGNING_KEY, and the older keys in AUDIT_VERIFY_KEYS. What the database says
of keys is a hint for people; whoever can write there could add one.
"""

from functools import lru_cache

from django.conf import settings

from audit.content import signing_key
from audit.notes import NoteError, Signer, Verifier, VkeyError
from onesource.env import EnvError


def signer() -> Signer:
    """Raises EnvError."""
    return _signer(settings.AUDIT_LOG_ORIGIN, signing_key())


def verifiers() -> list[Verifier]:
    """The signer's own first, then AUDIT_VERIFY_KEYS. Raises EnvError."""
    return list(_verifiers(signer().vkey, *settings.AUDIT_VERIFY_KEYS))


@lru_cache(maxsize=4)
def _signer(name: str, seed: bytes) -> Signer:
    try:
        return Signer(name, seed)
    except NoteError as error:
        raise EnvError("AUDIT_LOG_ORIGIN", str(error)) from None


@lru_cache(maxsize=4)
def _verifiers(*vkeys: str) -> tuple[Verifier, ...]:
    found = []
    for number, vkey in enumerate(dict.fromkeys(vkeys)):
        try:
            found.append(Verifier.parse(vkey))
        except VkeyError as error:
            raise EnvError("AUDIT_VERIFY_KEYS", f"entry {number}: {error}") from None
    return tuple(found)
