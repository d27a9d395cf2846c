"""Who may review: each permission of its own, and the trail for all of them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

VIEW, REVEAL, EXPORT = "audit.view_event", "audit.reveal_content", "audit.export_proof"
Page = Callable[..., HttpResponseBase]


def reviewers(*more: str) -> Callable[[Page], Page]:
    """A page for those who may see the trail, and have the permissions `more`; the others learn nothing of it."""

    def decorate(page: Page) -> Page:
        @wraps(page)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                # What was to be posted is lost with the sign-in; its address leads nowhere.
                safe = request.method in ("GET", "HEAD")
                return redirect_to_login(request.get_full_path() if safe else reverse("review"))
            if not request.user.has_perms((VIEW, *more)):
                raise PermissionDenied
            response = page(request, *args, **kwargs)
            add_never_cache_headers(response)
            return response

        return guarded

    return decorate


class Reviews(BasePermission):
    """The caller has what the view's `permissions` name, besides seeing the trail."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user.has_perms((VIEW, *getattr(view, "permissions", ()))))
