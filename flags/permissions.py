"""Who may see a flag in the admin may read it anywhere, who may change it there may change it anywhere."""

from typing import Any, Literal

from flags.registry import REGISTRY

MODELS = {"cohort": "flag", "switch": "switch", "choice": "setting", "number": "setting"}


def permission_of(verb: Literal["view", "change"], key: str) -> str:
    """The admin's own permission of the flag; an unknown one is told to whoever may handle flags."""
    entry = REGISTRY.get(key)
    return f"flags.{verb}_{MODELS[entry.type] if entry else 'flag'}"


def may(user: Any, verb: Literal["view", "change"], key: str) -> bool:
    """As in the admin, who may change a flag may look at it."""
    allowed = user.has_perm(permission_of(verb, key))
    return bool(allowed or (verb == "view" and user.has_perm(permission_of("change", key))))
