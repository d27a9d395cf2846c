"""The registered kinds of audit events. An unknown kind raises: a misspelt one would be looked for in vain."""

from dataclasses import dataclass


class UnknownKind(ValueError):
    pass


class IncompleteFacts(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    label: str
    required: frozenset[str]


KINDS: dict[str, Kind] = {}


def register(name: str, label: str, *required: str) -> str:
    if name in KINDS:
        raise ValueError(f"audit kind {name} is registered twice")
    KINDS[name] = Kind(name, label, frozenset(required))
    return name


def check(name: str, facts: dict[str, object]) -> None:
    kind = KINDS.get(name)
    if kind is None:
        raise UnknownKind(f"{name!r} is not a registered audit kind")
    if missing := kind.required - facts.keys():
        raise IncompleteFacts(f"{name} needs {', '.join(sorted(missing))}")


TURN_COMPLETED = register(
    "turn.completed", "Question answered",
    "turn_id", "session_id", "turn", "endpoint", "pipeline", "outcome", "question", "answer", "guard", "flags",
)  # fmt: skip
TURN_STARTED = register(
    "turn.started", "Streamed answer begun", "turn_id", "session_id", "endpoint", "pipeline", "question", "flags"
)
TURN_ABORTED = register(
    "turn.aborted",
    "Answer ended early",
    "turn_id",
    "session_id",
    "endpoint",
    "pipeline",
    "outcome",
    "ended",
    "question",
)
SESSION_DELETED = register("session.deleted", "Conversation erased", "session_id", "turns_erased")
EXPORT_MADE = register("export.made", "Content or evidence exported", "what", "reason", "source")
FLAG_CHANGED = register("flag.changed", "Flag or setting changed", "key", "old", "new", "reason", "source", "epoch")
CONTENT_PURGED = register("content.purged", "Content deleted at the end of its retention", "turns", "before")
TRIGGERS_RESTORED = register("triggers.restored", "Append-only triggers put back", "triggers")
SIGNING_KEY_USED = register("signing_key.used", "Checkpoints signed under another key", "vkey", "before")
LOGIN_SUCCEEDED = register("login.succeeded", "Signed in")
LOGIN_FAILED = register("login.failed", "Sign-in refused", "identifier_hash")
LOGGED_OUT = register("logout", "Signed out")
TOKEN_CREATED = register("token.created", "API token created", "expires", "for_ref", "source")
TOKEN_REVOKED = register("token.revoked", "API token revoked", "for_ref", "source")
ROLLOUT_STARTED = register(
    "rollout.started", "Guarded rollout begun", "key", "rollout", "stage_bp", "hold_seconds", "reason", "source"
)
ROLLOUT_ADVANCED = register(
    "rollout.advanced", "Guarded rollout advanced", "key", "rollout", "from_bp", "to_bp", "canary", "control"
)
ROLLOUT_TRIPPED = register(
    "rollout.tripped", "Guarded rollout taken back", "key", "rollout", "stage_bp", "reason", "canary", "control"
)
ROLLOUT_COMPLETED = register("rollout.completed", "Guarded rollout completed", "key", "rollout", "canary", "control")
ROLLOUT_CANCELLED = register("rollout.cancelled", "Guarded rollout cancelled", "key", "rollout", "stage_bp", "reason")
ROLLOUT_SUPERSEDED = register("rollout.superseded", "Guarded rollout ended by an edit", "key", "rollout", "reason")
ROLLOUT_ACKNOWLEDGED = register("rollout.acknowledged", "Taken-back rollout acknowledged", "key", "rollout", "reason")
CHANGE_REQUESTED = register(
    "change.requested", "Change of a flag asked for", "key", "request", "change", "reason", "scheduled_for"
)
CHANGE_APPROVED = register("change.approved", "Change of a flag approved", "key", "request", "reason")
CHANGE_REJECTED = register("change.rejected", "Change of a flag rejected", "key", "request", "reason")
CHANGE_CANCELLED = register("change.cancelled", "Change of a flag withdrawn", "key", "request", "reason")
CHANGE_SCHEDULED = register("change.scheduled", "Change of a flag scheduled", "key", "request", "scheduled_for")
CHANGE_SUSPENDED = register("change.suspended", "Change of a flag suspended", "key", "request", "reason")
CHANGE_APPLIED = register("change.applied", "Requested change of a flag made", "key", "request", "emergency")
CONTENT_REVEALED = register(
    "content.revealed", "Content shown to a reviewer", "turn_id", "session_id", "reason", "source"
)
TURN_REPLAYED = register("turn.replayed", "Turn asked again by a reviewer", "turn_id", "session_id", "reason", "source")
USER_CREATED = register(
    "user.created", "User made", "for_ref", "is_active", "is_staff", "is_superuser", "password_usable", "source"
)
USER_CHANGED = register("user.changed", "User changed", "for_ref", "fields", "flags", "source")
USER_DELETED = register("user.deleted", "User deleted", "for_ref", "source")
USER_GROUPS_CHANGED = register("user.groups_changed", "User's groups changed", "for_ref", "change", "groups", "source")
USER_PERMISSIONS_CHANGED = register(
    "user.permissions_changed", "User's own permissions changed", "for_ref", "change", "permissions", "source"
)
GROUP_CREATED = register("group.created", "Group made", "group", "source")
GROUP_CHANGED = register("group.changed", "Group changed", "group", "fields", "source")
GROUP_DELETED = register("group.deleted", "Group deleted", "group", "permissions", "members", "source")
GROUP_PERMISSIONS_CHANGED = register(
    "group.permissions_changed", "Group's permissions changed", "group", "change", "permissions", "source"
)
PERMISSION_DELETED = register("permission.deleted", "Permission deleted", "permission", "groups", "users", "source")
ADMIN_EDITED = register("admin.edited", "Edited in the admin", "model", "object", "action", "fields")
TOKEN_CHANGED = register("token.changed", "API token changed", "token", "for_ref", "fields", "expires", "source")
TOKEN_REFUSED = register("token.refused", "API token refused", "cause", "token", "for_ref", "suppressed")
CONFIGURATION_LOADED = register("configuration.loaded", "Process started with this configuration", "process", "hash")
KNOWLEDGE_CHANGED = register(
    "knowledge.changed", "Knowledge base changed", "what", "changed", "removed", "passages", "source"
)
HOLD_PLACED = register("hold.placed", "Legal hold placed", "session_id", "hold", "reason", "source", "turns")
HOLD_RELEASED = register(
    "hold.released", "Legal hold released", "session_id", "hold", "reason", "source", "turns_deleted"
)
SUBJECT_ERASED = register(
    "subject.erased", "Person erased", "subject_ref", "sessions", "turns", "keys", "held", "reason", "source"
)
KEYS_ROTATED = register("keys.rotated", "Data keys put under a newer key", "from", "to", "rows")
