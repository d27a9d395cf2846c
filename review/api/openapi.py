from typing import Any

from drf_spectacular.utils import OpenApiParameter

from chat.api.openapi import PROBLEM
from review.forms import TurnSearchForm

GONE_RESPONSES: dict[Any, Any] = {(410, "application/problem+json"): PROBLEM}
CONFLICT_RESPONSES: dict[Any, Any] = {(409, "application/problem+json"): PROBLEM}


def filter_parameters() -> list[OpenApiParameter]:
    """The filters of the search, as its page describes them."""
    form = TurnSearchForm()
    return [
        OpenApiParameter(
            form.add_prefix(name),
            str,
            description=str(field.help_text),
            enum=[value for value, _ in field.choices if value] if hasattr(field, "choices") else None,
        )
        for name, field in form.fields.items()
    ]
