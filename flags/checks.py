from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from flags import snapshot


@register
def store_is_configured(**kwargs: Any) -> list[CheckMessage]:
    if snapshot.pins().get("CONV_STORE_PRIMARY") == "redis" and not settings.REDIS_URL:
        return [
            Error(
                "CONV_STORE_PRIMARY is pinned to redis, and REDIS_URL is not set.",
                hint="Set REDIS_URL, or CONV_STORE_PRIMARY=database.",
                id="flags.E001",
            )
        ]
    return []
