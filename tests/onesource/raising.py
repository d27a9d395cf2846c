"""A URLconf whose views raise what a test tells them: /plain as Django's own views do, /api as DRF's."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chat.api.authentication import SessionAuthentication
from onesource.urls import urlpatterns as product

planted: list[BaseException] = []


def plain(request: HttpRequest) -> HttpResponse:
    raise planted[0]


class RaisingView(APIView):
    # The last authentication tells DRF which scheme a 401 names; without one it would say 403.
    authentication_classes = (SessionAuthentication,)
    permission_classes = ()

    def get(self, request: Request) -> Response:
        raise planted[0]


def middle(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware that fails, as one does whose session store is away."""

    def fail(request: HttpRequest) -> HttpResponse:
        raise planted[0]

    return fail


urlpatterns = [path("plain", plain), path("api", RaisingView.as_view()), path("chat/plain", plain), *product]
handler400 = "onesource.errors.bad_request"
handler403 = "onesource.errors.forbidden"
handler404 = "onesource.errors.not_found"
handler500 = "onesource.errors.server_error"
