import json
from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import UserPassesTestMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.generic import TemplateView
from drf_spectacular.generators import SchemaGenerator

from chat.guard import CODES, Class


class ChatPage(UserPassesTestMixin, TemplateView):
    """The page where people ask. Without a sign-in only in development."""

    template_name = "chat.html"
    http_method_names = ["get", "head", "options"]

    # What a reader is told of an answer that is not all that the model meant to say.
    extra_context = {
        "losses": json.dumps(
            {name: code.sentence for name, code in CODES.items() if code.cls in (Class.LOSS, Class.FALLBACK)}
        )
    }

    def test_func(self) -> bool:
        return self.request.user.is_authenticated or settings.ANONYMOUS_CHAT


@require_safe
def api_docs(request: HttpRequest) -> HttpResponse:
    base = f"{request.scheme}://{request.get_host()}"
    return render(request, "api_docs.html", {"operations": operations(), "base": base})


def operations() -> list[dict[str, Any]]:
    """The operations of the OpenAPI document, in its order: method, path, description."""
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]  # type: ignore[no-untyped-call]
    return [
        {"method": method.upper(), "path": path, "description": operation.get("description", "")}
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]
