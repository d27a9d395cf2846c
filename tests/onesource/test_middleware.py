"""Request ids and the content security policy."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

MADE = re.compile(r"[0-9a-f]{32}")
PAGES = ["/healthz", "/nothing", "/accounts/login", "/admin/login/", "/api/schema/", "/"]


@pytest.mark.parametrize("given", ["abcdefgh", "A.b_c-0123", "x" * 64, "0191e3a8-7b7c-7cc3-a1b2-000000000001"])
def test_a_well_formed_request_id_is_kept(client: Client, given: str) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": given})["X-Request-ID"] == given


@pytest.mark.parametrize(
    "given",
    [
        "",
        "short",
        "x" * 65,
        "has a space",
        "semi;colon",
        "<script>x</script>",
        "id\nX-Evil: 1",
        "abcdefgh\n",
        "\u0430\u0431\u0432" * 4,
    ],
)
def test_another_request_id_is_replaced(client: Client, given: str) -> None:
    response = client.get("/healthz", headers={"X-Request-ID": given})
    assert MADE.fullmatch(response["X-Request-ID"])


def test_each_request_gets_an_id_of_its_own(client: Client) -> None:
    made = {client.get("/healthz")["X-Request-ID"] for _ in range(5)}
    assert len(made) == 5


@pytest.mark.parametrize("path", PAGES)
def test_every_response_has_a_request_id(client: Client, db: None, path: str) -> None:
    assert MADE.fullmatch(client.get(path)["X-Request-ID"])


@pytest.mark.parametrize("path", PAGES)
def test_only_our_own_scripts_run_on_a_page(client: Client, db: None, path: str) -> None:
    policy = dict(part.split(" ", 1) for part in client.get(path)["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"


@pytest.mark.parametrize("path", ["/", "/accounts/login", "/api/docs/"])
def test_our_pages_need_nothing_that_the_policy_forbids(client: Client, db: None, path: str) -> None:
    page = client.get(path).content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)|<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)


def test_the_request_id_is_in_the_log_lines_of_its_request(
    client: Client, log_lines: Callable[[], list[dict[str, Any]]], settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.onesource.raising.middle"]
    from tests.onesource import raising

    raising.planted[:] = [RuntimeError("a fault")]
    client.raise_request_exception = False
    response = client.get("/healthz")
    assert [line["request_id"] for line in log_lines()] == [response["X-Request-ID"]]
