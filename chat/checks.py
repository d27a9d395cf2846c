from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning


@register
def provider_is_configured(**kwargs: Any) -> list[CheckMessage]:
    if settings.LLM_PROVIDER != "openai":
        return []
    missing = [name for name in ("LLM_BASE_URL", "LLM_MODEL") if not getattr(settings, name)]
    found: list[CheckMessage] = [
        Error(f"LLM_PROVIDER is openai, and {name} is not set.", hint=f"Set {name}.", id="chat.E001")
        for name in missing
    ]
    if settings.LLM_BASE_URL.startswith("http://") and settings.LLM_API_KEY and settings.PRODUCTION:
        found.append(
            CheckWarning(
                "LLM_BASE_URL is plain http: questions and LLM_API_KEY travel unencrypted.",
                hint="Use https, unless the server is on this host, and then silence chat.W001.",
                id="chat.W001",
            )
        )
    return found
