from typing import Any

from django import forms
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
            enum=_choices(field),
        )
        for name, field in form.fields.items()
    ]


def filters_schema() -> dict[str, Any]:
    """The same in a body."""
    form = TurnSearchForm()
    return {
        "type": "object",
        "description": "As the search takes them in its address; all turns without.",
        "additionalProperties": False,
        "properties": {form.add_prefix(name): _property(field) for name, field in form.fields.items()},
    }


def _property(field: forms.Field) -> dict[str, Any]:
    choices = _choices(field)
    return {"type": "string", "description": str(field.help_text), **({"enum": choices} if choices else {})}


def _choices(field: forms.Field) -> list[str] | None:
    return [str(value) for value in dict(getattr(field, "choices", ())) if value] or None
