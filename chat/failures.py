"""Turns that got no answer, on record as far as that is possible: a rollout's guard counts them against their arm."""

import structlog
from django import db
from django.db import transaction

from chat.models import TurnFailure
from chat.pipeline.turn import TurnInput
from onesource.errors import DATABASE_AWAY, problem_of

log = structlog.get_logger(__name__)


def failure_record(turn: TurnInput, error: Exception) -> None:
    """Keeps a turn that ended in `error`, unless the error is the caller's own (4xx). Never raises for the database."""
    problem = problem_of(error)
    if problem is not None and problem.status < 500:
        return
    if isinstance(error, DATABASE_AWAY) and not _server_answered(error):
        # A second attempt would cost the caller another timeout, most likely in vain.
        return
    failure_keep(turn, problem.code if problem else type(error).__name__)


def failure_keep(turn: TurnInput, code: str) -> None:
    """One row in a transaction of its own; when that fails a log line, for there is an error to report already."""
    try:
        with transaction.atomic():
            TurnFailure.objects.create(endpoint=turn.endpoint, pipeline=turn.pipeline, arms=turn.arms, code=code[:60])
    except db.Error as second:
        log.warning("turn.failure_not_kept", code=code, cause=type(second).__name__)


def _server_answered(error: Exception) -> bool:
    """A statement that PostgreSQL itself refused or cut off carries its code; a connection that is gone does not.
    SQLite has one name for statements that are at fault, and others for a file that is locked or away."""
    cause = error.__cause__
    return bool(getattr(cause, "sqlstate", None)) or getattr(cause, "sqlite_errorname", "") == "SQLITE_ERROR"
