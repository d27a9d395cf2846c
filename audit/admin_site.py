"""The admin with its log on record whole: Django writes that of a bulk deletion past the signals."""

from collections.abc import Iterable
from functools import wraps
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse

from audit.edits import edit_record

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class BulkDeletionsRecorded:
    """Before a registered ModelAdmin."""

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Model]) -> list[LogEntry]:
        entries: list[LogEntry] = super().log_deletions(request, queryset)  # type: ignore[misc]
        # A single one is saved, and recorded by its signal.
        for entry in entries if len(entries) > 1 else ():
            edit_record(entry)
        return entries


class RecordedAdminSite(AdminSite):
    def register(
        self, model_or_iterable: type[Model] | Iterable[type[Model]], admin_class: Any = None, **options: Any
    ) -> None:
        base = admin_class or ModelAdmin
        recorded = type(base.__name__, (BulkDeletionsRecorded, base), {"__module__": base.__module__})
        super().register(model_or_iterable, recorded, **options)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """A page's changes and their events are one transaction: Django's password page and its actions hold none."""

        @wraps(view)
        def together(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method in SAFE:
                return view(request, *args, **kwargs)  # type: ignore[no-any-return]
            with transaction.atomic():
                return view(request, *args, **kwargs)  # type: ignore[no-any-return]

        return super().admin_view(together, cacheable)
