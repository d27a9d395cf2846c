import io
import os
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onesource.settings")

DISCARDED_BYTES = 8 * 1024 * 1024
Environ = dict[str, Any]
WSGIApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class ChunkedBody:
    """Gives Django the body of a chunked request, up to one byte over the limit.

    Django takes a request without Content-Length for one without a body (ticket 28668 and its kin).
    """

    def __init__(self, app: WSGIApplication, limit: int) -> None:
        self.app = app
        self.limit = limit

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked" and not environ.get("CONTENT_LENGTH"):
            body = environ["wsgi.input"].read(self.limit + 1)
            if len(body) > self.limit:
                _discard(environ["wsgi.input"])
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return self.app(environ, start_response)


def _discard(stream: Any) -> None:
    """A client that is cut off while it sends never reads the 413, so a reasonable rest is taken and thrown away."""
    left = DISCARDED_BYTES
    while left > 0 and (part := stream.read(64 * 1024)):
        left -= len(part)


def _application() -> WSGIApplication:
    django_application = get_wsgi_application()
    from django.conf import settings

    return ChunkedBody(django_application, settings.REQUEST_BODY_LIMIT)


application = _application()
