"""Whatever the admin changes is on record, by its own log: model, object and fields, without any value or name."""

import json
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.db.models.signals import post_save
from django.dispatch import receiver
from knox.models import AuthToken

from audit import actions
from audit.accounts import saved_atomically
from audit.selectors import subject_ref_held
from audit.services import event_record, identifier_hash, subject_ref_of

STREAM = "admin"
ACTIONS = {ADDITION: "add", CHANGE: "change", DELETION: "delete"}
OBJECT_CHARS = 100
LISTED = 100

saved_atomically(LogEntry)


@receiver(post_save, sender=LogEntry)
def log_entry_record(sender: Any, instance: LogEntry, created: bool, raw: bool, **kwargs: Any) -> None:
    if created and not raw:
        edit_record(instance)


def edit_record(entry: LogEntry) -> None:
    model = entry.content_type.model_class() if entry.content_type else None
    label = ".".join(entry.content_type.natural_key()) if entry.content_type else ""
    event_record(
        kind=actions.ADMIN_EDITED,
        stream=STREAM,
        actor_ref=subject_ref_of(entry.user),
        facts={
            "model": label,
            "object": _object_ref(model, "" if entry.object_id is None else str(entry.object_id)),
            "action": ACTIONS.get(entry.action_flag, str(entry.action_flag)),
            "fields": _fields(entry.change_message)[:LISTED],
        },
    )


def _object_ref(model: Any, object_id: str) -> str:
    if model is User:
        return subject_ref_held(int(object_id)) if object_id.isdigit() else ""
    if model is AuthToken:
        return identifier_hash("token", object_id.encode())
    return object_id[:OBJECT_CHARS]


def _fields(message: str) -> list[str]:
    """The fields that a structured message names, and the models of inline rows; not `object`, a row's text."""
    try:
        parts = json.loads(message) if message else []
    except ValueError:
        return []
    told: set[str] = set()
    for part in parts if isinstance(parts, list) else []:
        for change in part.values() if isinstance(part, dict) else ():
            if isinstance(change, dict):
                told.update(str(name) for name in (*change.get("fields", ()), change.get("name")) if name)
    return sorted(told)
