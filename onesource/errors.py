"""One class tree of domain errors and one translator to RFC 9457 problem details.

Every error a client sees has `type, title, status, detail, code, request_id`, and `errors: {field: [..]}` for bad
input. The text of an exception of someone else's never reaches a client: it is written for operators.
"""

import http
import sys
from typing import Any

import structlog
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from rest_framework import exceptions as drf
from rest_framework.response import Response

log = structlog.get_logger(__name__)
CONTENT_TYPE = "application/problem+json"

# What a lost, read-only or overloaded database raises; an IntegrityError or a ProgrammingError is a fault of ours.
DATABASE_AWAY: tuple[type[DatabaseError] | type[InterfaceError], ...] = (
    OperationalError,
    InterfaceError,
    InternalError,
)


class ProblemError(Exception):
    """Base of all errors that a client is told about; `detail` is written for the client and says what to do."""

    status = 500
    code = "internal_error"
    title = "Something went wrong on our side"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str = "",
        errors: dict[str, list[str]] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.code = code or type(self).code
        self.errors = errors
        self.retry_after = retry_after


class BadInput(ProblemError):
    status = 400
    code = "bad_input"
    title = "The request cannot be understood as it is"


class NotAuthenticated(ProblemError):
    status = 401
    code = "not_authenticated"
    title = "Sign in or send a token"


class Forbidden(ProblemError):
    status = 403
    code = "forbidden"
    title = "You may not do this"


class NotFound(ProblemError):
    status = 404
    code = "not_found"
    title = "There is nothing here for you"


class MethodNotAllowed(ProblemError):
    status = 405
    code = "method_not_allowed"
    title = "This method is not offered here"


class NotAcceptable(ProblemError):
    status = 406
    code = "not_acceptable"
    title = "No representation on offer satisfies the Accept header"


class Conflict(ProblemError):
    status = 409
    code = "conflict"
    title = "The request conflicts with the state of the resource"


class Gone(ProblemError):
    status = 410
    code = "gone"
    title = "The content is no longer held"


class BodyTooLarge(ProblemError):
    status = 413
    code = "body_too_large"
    title = "The body is too large"


class UnsupportedMediaType(ProblemError):
    status = 415
    code = "unsupported_media_type"
    title = "The body must be application/json in UTF-8, without Content-Encoding"


class TooManyRequests(ProblemError):
    status = 429
    code = "rate_limited"
    title = "Too many requests"


class Unavailable(ProblemError):
    status = 503
    code = "unavailable"
    title = "Not possible at the moment"


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    title = "The database cannot be reached; nothing was recorded and nothing was answered. Please try again"


BY_STATUS: dict[int, type[ProblemError]] = {
    cls.status: cls
    for cls in (BadInput, NotAuthenticated, Forbidden, NotFound, MethodNotAllowed, NotAcceptable, Conflict, Gone)
} | {413: BodyTooLarge, 415: UnsupportedMediaType, 429: TooManyRequests, 503: Unavailable}


def problem_body(error: ProblemError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"urn:onesource:problem:{error.code}",
        "title": error.title if error.status != 500 else http.HTTPStatus(500).phrase,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    if error.errors:
        body["errors"] = error.errors
    return body


def problem_headers(error: ProblemError) -> dict[str, str]:
    return {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}


def problem_response(error: ProblemError, request: HttpRequest) -> HttpResponse:
    body = problem_body(error, getattr(request, "request_id", ""))
    return JsonResponse(body, status=error.status, content_type=CONTENT_TYPE, headers=problem_headers(error))


def problem_of(error: BaseException) -> ProblemError | None:
    """The domain error that stands for a library's exception; None when it is a fault of ours."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, DATABASE_AWAY) or type(error) is DatabaseError:
        return DatabaseUnavailable(retry_after=2)
    if isinstance(error, Http404):
        return NotFound()
    if isinstance(error, PermissionDenied):
        return Forbidden()
    if isinstance(error, RequestDataTooBig):
        return BodyTooLarge()
    if isinstance(error, (SuspiciousOperation, BadRequest, MultiPartParserError, UnreadablePostError)):
        return BadInput()
    if isinstance(error, drf.ValidationError):
        return _bad_fields(error)
    if isinstance(error, drf.APIException):
        cls = BY_STATUS.get(error.status_code)
        return cls() if cls else None
    return None


def _bad_fields(error: drf.ValidationError) -> ProblemError:
    detail = error.detail
    fields = detail if isinstance(detail, dict) else {"body": detail}
    errors = {str(name): _messages(value) for name, value in fields.items()}
    return BadInput("Correct the fields named in errors and send the request again.", errors=errors)


def _messages(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [message for inner in value.values() for message in _messages(inner)]
    if isinstance(value, list):
        return [message for inner in value for message in _messages(inner)]
    return [str(value)]


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. None lets an unknown exception rise to ProblemMiddleware, which logs it."""
    problem = problem_of(error)
    if problem is None:
        return None
    request = context["request"]
    _log(problem, error)
    headers = problem_headers(problem)
    if problem.status == 401:
        # Without it a 401 is not valid HTTP (RFC 9110, 11.6.1).
        headers["WWW-Authenticate"] = "Bearer"
    view = context.get("view")
    render = getattr(view, "problem_body", problem_body)
    response = Response(render(problem, getattr(request, "request_id", "")), status=problem.status, headers=headers)
    response.content_type = CONTENT_TYPE if render is problem_body else "application/json"
    return response


def _log(problem: ProblemError, error: BaseException) -> None:
    if problem.status >= 500:
        cause = error.__cause__ or error
        log.warning("request.unavailable", code=problem.code, status=problem.status, cause=type(cause).__name__)


def internal_error(request: HttpRequest, error: BaseException) -> HttpResponse:
    log.error("request.failed", path=request.path, exc_info=error)
    return problem_response(ProblemError("The fault is recorded under the request_id."), request)


def not_found(request: HttpRequest, exception: BaseException | None = None) -> HttpResponse:
    return problem_response(NotFound("No such address. The API is described at /api/docs/."), request)


def bad_request(request: HttpRequest, exception: BaseException | None = None) -> HttpResponse:
    return problem_response(BadInput(), request)


def forbidden(request: HttpRequest, exception: BaseException | None = None) -> HttpResponse:
    return problem_response(Forbidden(), request)


def server_error(request: HttpRequest) -> HttpResponse:
    """Called by Django inside the except clause, also for what a middleware raised (a session store that is away)."""
    error = sys.exc_info()[1]
    problem = problem_of(error) if error else ProblemError()
    if problem is None:
        return internal_error(request, error or RuntimeError("no exception"))
    return problem_response(problem, request)
