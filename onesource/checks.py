from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning


@register(Tags.security, deploy=True)
def production_is_production(**kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if not settings.PRODUCTION:
        found.append(
            CheckWarning("ENVIRONMENT is not production.", hint="Set ENVIRONMENT=production.", id="onesource.W001")
        )
    if settings.PRODUCTION and settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        found.append(
            CheckWarning("SQLite serves one machine only.", hint="Set DATABASE_URL to PostgreSQL.", id="onesource.W002")
        )
    return found


@register
def hosts_are_named(**kwargs: Any) -> list[CheckMessage]:
    if settings.PRODUCTION and not settings.ALLOWED_HOSTS:
        return [
            Error(
                "ALLOWED_HOSTS is empty: every request would be refused.",
                hint="Set ALLOWED_HOSTS.",
                id="onesource.E001",
            )
        ]
    return []


@register
def debug_is_off(**kwargs: Any) -> list[CheckMessage]:
    if settings.PRODUCTION and settings.DEBUG:
        return [Error("DEBUG shows secrets to whoever causes an error.", hint="Unset DEBUG.", id="onesource.E002")]
    return []
