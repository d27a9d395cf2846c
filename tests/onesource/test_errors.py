"""One error shape for the whole product: RFC 9457 problem details, whatever was raised and wherever."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
)
from django.db import IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError
from django.http import Http404
from django.test import Client
from rest_framework import exceptions as drf

from onesource import errors
from tests.onesource import raising

FIELDS = {"type", "title", "status", "detail", "code", "request_id"}
SECRET = "planted-in-an-exception"


@pytest.fixture
def planted() -> Iterator[list[BaseException]]:
    raising.planted.clear()
    yield raising.planted
    raising.planted.clear()


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def problem_check(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert FIELDS <= body.keys() <= FIELDS | {"errors"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == response["X-Request-ID"]
    assert body["title"]
    assert body["detail"]
    return body


CASES = [
    (errors.BadInput("Say it again."), 400, "bad_input"),
    (errors.BadInput("Say it again.", code="malformed_json"), 400, "malformed_json"),
    (errors.NotAuthenticated(), 401, "not_authenticated"),
    (errors.Forbidden(), 403, "forbidden"),
    (errors.NotFound(), 404, "not_found"),
    (errors.MethodNotAllowed(), 405, "method_not_allowed"),
    (errors.NotAcceptable(), 406, "not_acceptable"),
    (errors.Conflict(), 409, "conflict"),
    (errors.Gone(), 410, "gone"),
    (errors.BodyTooLarge(), 413, "body_too_large"),
    (errors.UnsupportedMediaType(), 415, "unsupported_media_type"),
    (errors.TooManyRequests(retry_after=7), 429, "rate_limited"),
    (errors.Unavailable(), 503, "unavailable"),
    (OperationalError(SECRET), 503, "database_unavailable"),
    (InterfaceError(SECRET), 503, "database_unavailable"),
    (InternalError(SECRET), 503, "database_unavailable"),
    (Http404(SECRET), 404, "not_found"),
    (PermissionDenied(SECRET), 403, "forbidden"),
    (RequestDataTooBig(SECRET), 413, "body_too_large"),
    (drf.ParseError(SECRET), 400, "bad_input"),
    (drf.NotAuthenticated(SECRET), 401, "not_authenticated"),
    (drf.AuthenticationFailed(SECRET), 401, "not_authenticated"),
    (drf.PermissionDenied(SECRET), 403, "forbidden"),
    (drf.NotFound(SECRET), 404, "not_found"),
    (drf.MethodNotAllowed("PATCH", SECRET), 405, "method_not_allowed"),
    (drf.NotAcceptable(SECRET), 406, "not_acceptable"),
    (drf.UnsupportedMediaType(SECRET, SECRET), 415, "unsupported_media_type"),
    (drf.Throttled(detail=SECRET), 429, "rate_limited"),
]


@pytest.mark.urls("tests.onesource.raising")
@pytest.mark.parametrize("path", ["/plain", "/api"])
@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda value: type(value).__name__)
def test_an_error_is_told_as_a_problem(
    planted: list[BaseException], client: Client, path: str, error: BaseException, status: int, code: str
) -> None:
    planted.append(error)
    response = client.get(path)
    problem_check(response, status, code)
    assert SECRET not in response.content.decode()


@pytest.mark.urls("tests.onesource.raising")
@pytest.mark.parametrize("error", [TooManyFieldsSent(SECRET), SuspiciousOperation(SECRET), BadRequest(SECRET)])
def test_what_django_takes_for_a_bad_request_is_no_fault_of_ours(
    planted: list[BaseException], client: Client, error: BaseException
) -> None:
    planted.append(error)
    problem_check(client.get("/plain"), 400, "bad_input")


@pytest.mark.urls("tests.onesource.raising")
@pytest.mark.parametrize("path", ["/plain", "/api"])
@pytest.mark.parametrize(
    "error", [RuntimeError(SECRET), KeyError(SECRET), IntegrityError(SECRET), ProgrammingError(SECRET)]
)
def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    planted: list[BaseException], client: Client, path: str, error: BaseException
) -> None:
    planted.append(error)
    response = client.get(path)
    body = problem_check(response, 500, "internal_error")
    assert SECRET not in response.content.decode()
    assert "request_id" in body["detail"]


@pytest.mark.urls("tests.onesource.raising")
def test_a_middleware_that_lost_the_database_is_a_503(
    planted: list[BaseException], client: Client, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.onesource.raising.middle"]
    planted.append(OperationalError(SECRET))
    response = client.get("/plain")
    problem_check(response, 503, "database_unavailable")
    assert int(response["Retry-After"]) > 0


@pytest.mark.urls("tests.onesource.raising")
def test_a_middleware_that_fails_is_a_500(planted: list[BaseException], client: Client, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.onesource.raising.middle"]
    planted.append(RuntimeError(SECRET))
    response = client.get("/plain")
    problem_check(response, 500, "internal_error")
    assert SECRET not in response.content.decode()


@pytest.mark.urls("tests.onesource.raising")
@pytest.mark.parametrize("path", ["/plain", "/api"])
def test_retry_after_is_told_in_seconds(planted: list[BaseException], client: Client, path: str) -> None:
    planted.append(errors.TooManyRequests(retry_after=7))
    assert client.get(path)["Retry-After"] == "7"


@pytest.mark.urls("tests.onesource.raising")
@pytest.mark.parametrize("path", ["/plain", "/api"])
def test_a_lost_database_says_when_to_come_back(planted: list[BaseException], client: Client, path: str) -> None:
    planted.append(OperationalError())
    assert int(client.get(path)["Retry-After"]) > 0


@pytest.mark.urls("tests.onesource.raising")
def test_a_401_names_the_scheme(planted: list[BaseException], client: Client) -> None:
    planted.append(errors.NotAuthenticated())
    assert client.get("/api")["WWW-Authenticate"] == "Bearer"


@pytest.mark.urls("tests.onesource.raising")
@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ({"question": ["Too long."]}, {"question": ["Too long."]}),
        ({"question": "Too long."}, {"question": ["Too long."]}),
        ({"topics": {0: ["Too long."], 3: ["Blank."]}}, {"topics": ["Too long.", "Blank."]}),
        ({"topics": [["Too long."], [{"inner": "Blank."}]]}, {"topics": ["Too long.", "Blank."]}),
        (["Not an object."], {"body": ["Not an object."]}),
    ],
)
def test_bad_fields_are_named_with_flat_messages(
    planted: list[BaseException], client: Client, detail: Any, told: dict[str, list[str]]
) -> None:
    planted.append(drf.ValidationError(detail))
    assert problem_check(client.get("/api"), 400, "bad_input")["errors"] == told


@pytest.mark.urls("tests.onesource.raising")
def test_a_browser_that_asks_for_a_page_gets_one(planted: list[BaseException], client: Client) -> None:
    planted.append(errors.Forbidden("Only reviewers may."))
    response = client.get("/plain", headers={"Accept": "text/html,*/*"})
    assert response.status_code == 403
    assert response["Content-Type"].startswith("text/html")
    assert "Only reviewers may." in response.content.decode()
    assert response["X-Request-ID"] in response.content.decode()


@pytest.mark.urls("tests.onesource.raising")
def test_the_api_answers_a_browser_with_a_problem_too(planted: list[BaseException], client: Client) -> None:
    planted.append(errors.Forbidden())
    problem_check(client.get("/chat/plain", headers={"Accept": "text/html"}), 403, "forbidden")


# The product itself


@pytest.mark.parametrize(
    "path", ["/nothing", "/chat/nothing", "/healthz/", "/chat/", "/%00", "/..%2f", "/\N{GREEK SMALL LETTER ALPHA}"]
)
def test_an_unknown_address_is_a_404(client: Client, db: None, path: str) -> None:
    problem_check(client.get(path), 404, "not_found")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/version", "/metrics", "/flags", "/chat/sessions"])
@pytest.mark.parametrize("method", ["post", "delete"])
def test_another_method_is_a_405(client: Client, db: None, path: str, method: str) -> None:
    response = getattr(client, method)(path, content_type="application/json")
    problem_check(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


@pytest.mark.parametrize("host", ["evil.example", "localhost:port", "a b", "localhost,evil.example"])
def test_a_host_that_is_not_ours_is_a_400(client: Client, host: str) -> None:
    problem_check(client.get("/healthz", headers={"Host": host}), 400, "bad_input")


def test_a_lookup_that_the_admin_forbids_is_a_400(client: Client, admin: Any) -> None:
    client.force_login(admin.user)
    problem_check(client.get("/admin/flags/flag/?users__password__startswith=p"), 400, "bad_input")


def test_an_exception_of_a_status_that_we_do_not_know_is_not_translated() -> None:
    class Teapot(drf.APIException):
        status_code = 418

    assert errors.problem_of(Teapot()) is None
