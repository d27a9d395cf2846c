import re
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from onesource.errors import (
    CONTENT_TYPE,
    MethodNotAllowed,
    internal_error,
    problem_headers,
    problem_of,
    problem_response,
)

GetResponse = Callable[[HttpRequest], HttpResponse]
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


METHODS = frozenset(
    {"CONNECT", "COPY", "DELETE", "GET", "HEAD", "LOCK", "MKCOL", "MOVE", "OPTIONS", "PATCH", "POST", "PROPFIND",
     "PROPPATCH", "PUT", "REPORT", "SEARCH", "TRACE", "UNLOCK"}
)  # fmt: skip


class KnownMethodMiddleware:
    """First of all: a method's name is a label of the HTTP metrics, and a caller could invent any number of them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method in METHODS:
            return self.get_response(request)
        request.request_id = uuid.uuid4().hex  # type: ignore[attr-defined]
        response = problem_response(MethodNotAllowed(), request)
        response["Allow"] = "DELETE, GET, HEAD, OPTIONS, POST"
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        return response


class RequestIdMiddleware:
    """X-Request-ID on every response and in every log line; the caller's own is kept when it is well formed."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response


class ContentSecurityPolicyMiddleware:
    """Only our own scripts and styles run, whatever an answer's text may contain."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        )
        return response


class ProblemMiddleware:
    """Turns what a plain Django view raises into problem JSON, or into a page for a browser that asked for one."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == 405 and response.headers.get("Content-Type") != CONTENT_TYPE:
            # Django's own has an empty body.
            allowed = response.headers["Allow"]
            response = problem_response(MethodNotAllowed(f"Offered here: {allowed}."), request)
            response.headers["Allow"] = allowed
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        problem = problem_of(error)
        if problem is None:
            return internal_error(request, error)
        if "text/html" in request.headers.get("Accept", "") and not request.path.startswith(("/chat", "/v1", "/ofrep")):
            response = render(request, "problem.html", {"problem": problem}, status=problem.status)
            for name, value in problem_headers(problem).items():
                response.headers[name] = value
            return response
        return problem_response(problem, request)
