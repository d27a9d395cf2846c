"""JSON logs through structlog, for our own lines and for those of the libraries.

No line ever holds a question, an answer, a token, an e-mail address or an IP address: what a caller wrote is given by
its length. Keys that could carry such text are dropped here as a second line of defence.
"""

import logging
import logging.config
import re
from collections.abc import MutableMapping
from typing import Any

import structlog

REDACTED = "[redacted]"
SENSITIVE_KEYS = frozenset(
    {
        "answer", "api_key", "authorization", "body", "comment", "content", "cookie", "email", "ip", "password",
        "question", "raw", "remote_addr", "secret", "token", "user_agent", "username",
    }
)  # fmt: skip
PATTERNS = (
    (re.compile(r"(?i)\b(bearer|token|basic)\s+[\w.~+/=-]{8,}"), r"\1 " + REDACTED),
    (re.compile(r"\bsk-[\w-]{8,}"), REDACTED),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), REDACTED),
    (re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"), REDACTED),
    # IPv6: at least two colons between groups, of which a time of day (12:30:01) has only digits and none empty.
    (
        re.compile(
            r"(?i)(?<![\w:.])(?=[0-9a-f:]*(?:::|[a-f]|(?::[0-9a-f]+){5}))(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])"
        ),
        REDACTED,
    ),
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"), REDACTED),
)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: str, value: Any) -> Any:
    if key.lower() in SENSITIVE_KEYS:
        return REDACTED
    if isinstance(value, str):
        for pattern, replacement in PATTERNS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {inner: _redacted(str(inner), found) for inner, found in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted("", found) for found in value]
    return value


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def logging_config(level: str) -> None:
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": SHARED,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        redact,
                        structlog.processors.JSONRenderer(sort_keys=True),
                    ],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                # Django logs the path and a traceback of every 4xx and 5xx; ours says it with the request id.
                "django.request": {"level": "CRITICAL"},
                "django.security.DisallowedHost": {"level": "CRITICAL"},
                "httpx": {"level": "WARNING"},
                "httpcore": {"level": "WARNING"},
                "pypdf": {"level": "ERROR"},
                # A line for each try to connect, four a second in an outage; ours says it once.
                "psycopg.pool": {"level": "ERROR"},
            },
        }
    )
