from functools import lru_cache
from typing import cast

from django.conf import settings

from chat.guard.wire import Dialect
from chat.providers.base import Completion, CompletionRequest, Provider, ProviderError
from chat.providers.extractive import ExtractiveProvider
from chat.providers.openai import OpenAIProvider

__all__ = ["EXTRACTIVE", "Completion", "CompletionRequest", "Provider", "ProviderError", "configured"]

EXTRACTIVE = ExtractiveProvider()


@lru_cache(maxsize=1)
def configured() -> Provider:
    """The provider that LLM_PROVIDER names; one a process, so that its connections are kept."""
    if settings.LLM_PROVIDER == "openai":
        return OpenAIProvider(
            base_url=settings.LLM_BASE_URL,
            api_key=settings.LLM_API_KEY,
            model=settings.LLM_MODEL,
            max_tokens=settings.LLM_MAX_TOKENS,
            dialect=cast(Dialect, settings.LLM_SCHEMA_DIALECT),
        )
    return EXTRACTIVE
