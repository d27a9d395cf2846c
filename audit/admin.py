from django.contrib import admin
from django.http import HttpRequest

from audit.models import Event
from audit.rows import octets


@admin.register(Event)
class EventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Read only: the trail is written by the product alone."""

    list_display = ("at", "kind", "stream", "stream_seq", "actor_ref")
    list_filter = ("kind",)
    search_fields = ("uid", "stream", "actor_ref")
    fields = readonly_fields = ("uid", "at", "kind", "stream", "stream_seq", "actor_ref", "body_text")
    ordering = ("-id",)
    show_full_result_count = False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A regular expression is the database's to run, for as long as it takes; NUL is no text to PostgreSQL.
        return lookup in ("kind", "kind__exact") and "\x00" not in value

    @admin.display(description="body")
    def body_text(self, event: Event) -> str:
        return octets(event.body).decode("utf-8", "replace")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Event | None = None) -> bool:
        return False
