from django.contrib import admin
from django.http import HttpRequest
from knox.admin import AuthTokenAdmin
from knox.models import AuthToken

admin.site.unregister(AuthToken)


@admin.register(AuthToken)
class TokenAdmin(AuthTokenAdmin):
    """Made and deleted, never edited: a token with another owner or digest is a way in that nobody was given."""

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False
