"""What a process was started with, on record: a reviewer can tell under which configuration a turn was answered.

Secrets never, and of stores only whether they are there: their URLs carry passwords.
"""

import hashlib
import os
import platform
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import django
import structlog
from django import db
from django.conf import settings
from django.db import connection

from audit import actions, content
from audit.canonical import canonical_json
from audit.services import event_record
from flags import snapshot

log = structlog.get_logger(__name__)
STREAM = "configuration"
# Between tries while the database is away, doubled each time.
RETRY_SECONDS = 2.0
RETRY_LIMIT_SECONDS = 60.0
# The variables of docs/configuration.md that are no secrets, by where their values are held.
IN_SETTINGS = (
    "ENVIRONMENT", "DATABASE_TIMEOUT_MS", "REDIS_SOCKET_TIMEOUT_MS", "REDIS_CONNECT_TIMEOUT_MS", "MONGO_TIMEOUT_MS",
    "LLM_PROVIDER", "LLM_MODEL", "LLM_SCHEMA_DIALECT", "STREAM_RESUME_SECONDS", "LLM_CONTEXT_TOKENS", "LLM_MAX_TOKENS",
    "HOST", "PORT", "CHAT_CONCURRENCY", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "SECURE_SSL_REDIRECT",
    "METRICS_ALLOWED_NETWORKS", "FLAG_APPROVALS", "TOKEN_DAYS", "RELEASE_TRACK", "GIT_COMMIT", "BUILD_TIME",
    "LOG_LEVEL", "DEBUG", "VAR_DIR", "AUDIT_LOG_ORIGIN", "AUDIT_VERIFY_KEYS", "AUDIT_CHECKPOINT_DIR",
)  # fmt: skip
# Read by gunicorn and by libraries; "" when not set.
IN_ENVIRONMENT = (
    "WEB_WORKERS", "WEB_THREADS", "WORKER_CLASS", "DATABASE_POOL_SIZE", "TRUST_X_FORWARDED_PROTO",
    "PROMETHEUS_MULTIPROC_DIR", "WITH_WORKER",
)  # fmt: skip
# In a form of their own below.
IN_PART = ("DATABASE_URL", "REDIS_URL", "MONGO_URL", "CONTENT_KEYS", "LLM_BASE_URL", "AUDIT_CHECKPOINT_WEBHOOK")


def configuration_facts(process: str) -> dict[str, Any]:
    """`hash` is the SHA-256 of the canonical JSON of all the others: equal configurations have equal hashes."""
    facts: dict[str, Any] = {
        "process": process,
        "version": settings.VERSION,
        "python": platform.python_version(),
        "django": django.get_version(),
        "database": connection.vendor,
        "stores": {"redis": bool(settings.REDIS_URL), "mongo": bool(settings.MONGO_URL)},
        "content_keys": list(content.keyring().keys),
        "llm_origin": _origin(settings.LLM_BASE_URL),
        "webhook_origin": _origin(settings.AUDIT_CHECKPOINT_WEBHOOK),
        "pins": {key: _plain(value) for key, value in snapshot.pins().items()},
        "settings": {name: _plain(getattr(settings, name)) for name in IN_SETTINGS}
        | {name: os.environ.get(name, "") for name in IN_ENVIRONMENT},
    }
    return {**facts, "hash": hashlib.sha256(canonical_json(facts)).hexdigest()}


def configuration_record(process: str) -> None:
    facts = configuration_facts(process)
    event_record(kind=actions.CONFIGURATION_LOADED, stream=STREAM, actor_ref="", facts=facts)
    log.info("configuration.recorded", process=process, hash=facts["hash"])


def configuration_record_start(process: str) -> threading.Thread:
    """In the background, and again until it is on record: a database that is away does not keep a process from
    starting."""
    thread = threading.Thread(target=_record_until_done, args=(process,), name="configuration-record", daemon=True)
    thread.start()
    return thread


def _record_until_done(process: str) -> None:
    pause = RETRY_SECONDS
    while True:
        try:
            configuration_record(process)
        except db.Error as error:
            log.warning("configuration.unrecorded", cause=type(error).__name__, retry_seconds=pause)
        else:
            return
        finally:
            connection.close()
        time.sleep(pause)
        pause = min(2 * pause, RETRY_LIMIT_SECONDS)


def _origin(url: str) -> str:
    """Scheme, host and port: the rest may hold credentials."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""


def _plain(value: object) -> Any:
    """As audit bodies hold it: no floats, no objects."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)
