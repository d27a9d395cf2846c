"""What the probes say. A dependency that can be done without makes `degraded` with 200: a hard failure of a shared one
would take every pod out at once. 503 is for what ends all service: nothing can be recorded, or the process drains.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import db
from django.conf import settings
from django.db import transaction

from chat.guard import answer_check, guard
from chat.guard.schema import InvalidAnswer, draft_fault
from chat.stores.base import StoreAway
from chat.stores.conversation import RECORD, hot_stores, primary
from flags import snapshot
from flags.models import FlagsEpoch

__all__ = ["Health", "answer_check", "draining", "readiness"]

draining = threading.Event()
# One valid draft and one text that is no draft: the guard that answers both as it should is working.
PROBE = '{"title":"t","summary":"","blocks":[{"type":"markdown","text":"x"}]}'
PROBE_PROSE = "At least 865 mm."


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    checks: dict[str, dict[str, Any]]

    @property
    def http_status(self) -> int:
        return 503 if self.status == "not_ready" else 200


def readiness() -> Health:
    flags = snapshot.current()
    primary_name = primary(flags).name
    stores = {name: _checked(store.check) | {"primary": name == primary_name} for name, store in hot_stores().items()}
    checks: dict[str, dict[str, Any]] = {"database": _checked(_database)}
    # The store that is primary was asked already: each further question would wait for a stopped one once more.
    told = stores.get(primary_name) or checks["database"]
    checks["conversation_store"] = {"status": told["status"], "name": primary_name}
    wanted = flags.choice("CONV_STORE_PRIMARY")
    if wanted != primary_name:
        problem = f"CONV_STORE_PRIMARY names {wanted}, for which there is no URL here"
        checks["conversation_store"] |= {"status": "unhealthy", "problem": problem}
    checks["schema_guard"] = _checked(_schema_guard)
    checks["configuration"] = {"status": "healthy", "environment": settings.ENVIRONMENT}
    checks |= stores
    if draining.is_set():
        checks["draining"] = {"status": "unhealthy"}
    fatal = ("database", "schema_guard", "draining")
    unhealthy = {name for name, check in checks.items() if check["status"] != "healthy"}
    if unhealthy & set(fatal):
        return Health("not_ready", checks)
    return Health("degraded" if unhealthy else "ready", checks)


def _checked(check: Callable[[], None]) -> dict[str, Any]:
    try:
        check()
    except (db.Error, StoreAway, InvalidAnswer):
        return {"status": "unhealthy"}
    return {"status": "healthy"}


def _database() -> None:
    """A write that is rolled back: a read-only database answers SELECT and can record nothing."""
    RECORD.check()
    with transaction.atomic():
        FlagsEpoch.objects.filter(pk=1).update(epoch=-1)
        transaction.set_rollback(True)


def _schema_guard() -> None:
    good, bad = guard(PROBE), guard(PROBE_PROSE)
    if good.events or draft_fault(bad.draft) or bad.outcome != "fallback":
        raise InvalidAnswer("/")
