from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from knowledge.models import Document, Passage


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Content comes from files; an edit here would be lost at the next load and never reach the index."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Document)
class DocumentAdmin(ReadOnly):
    list_display = ["title", "source", "kind", "edition", "jurisdiction", "updated"]
    list_filter = ["kind"]
    search_fields = ["title", "source"]


@admin.register(Passage)
class PassageAdmin(ReadOnly):
    list_display = ["title", "reference", "key", "document", "confidence"]
    list_filter = ["confidence", "document__kind"]
    list_select_related = ["document"]
    search_fields = ["title", "heading", "text", "reference", "key"]
