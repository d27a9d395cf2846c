from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import Error

from audit.triggers import triggers_wrong


@register(Tags.database)
def triggers_stand(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """A warning, no error: an error would stop the very `migrate` that puts the triggers back."""
    if not databases or "default" not in databases:
        return []
    try:
        wrong = triggers_wrong()
    except Error:
        # Without a database there is nothing to look at; that it is away is told elsewhere.
        return []
    return [
        CheckWarning(
            f"The append-only trigger {name} is missing, switched off or changed.",
            hint="Run manage.py migrate, which installs it again, and manage.py audit verify.",
            id="audit.W001",
        )
        for name in wrong
    ]
