"""Who is at work: the person behind the request at hand; nobody known in a shell, a command or a job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse

from audit.services import subject_ref_of

SHELL = "shell"
ADMIN_PATH = "/admin/"


@dataclass(frozen=True, slots=True)
class Actor:
    """`ref` is a pseudonym, or "" for nobody known."""

    ref: str
    source: str


_request: ContextVar[HttpRequest | None] = ContextVar("audit_request", default=None)
_source: ContextVar[str] = ContextVar("audit_source", default="")


class ActorMiddleware:
    """Lets signal receivers know the request. Nothing is read from it until something is recorded."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = _request.set(request)
        try:
            return self.get_response(request)
        finally:
            _request.reset(token)


@contextmanager
def source_named(source: str) -> Iterator[None]:
    """What is recorded in the block came this way, request or not."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def actor_current() -> Actor:
    request = _request.get()
    if request is None:
        return Actor("", _source.get() or SHELL)
    user = getattr(request, "user", None)
    ref = subject_ref_of(user) if user is not None and user.is_authenticated else ""
    return Actor(ref, _source.get() or ("admin" if request.path.startswith(ADMIN_PATH) else "request"))
