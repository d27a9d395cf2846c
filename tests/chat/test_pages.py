"""The page at /, sign-in, and the API documentation."""

import re
from contextlib import closing

import pytest
from django.test import Client

from audit.models import Event
from tests.cast import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture
def production(settings):
    settings.ANONYMOUS_CHAT = False


def csp_of(response) -> dict[str, str]:
    parts = (part.split(None, 1) for part in response.headers["Content-Security-Policy"].split(";"))
    return dict(parts)


def test_the_page_asks_for_a_question(client):
    page = client.get("/").content.decode()
    assert '<form id="ask"' in page
    assert re.search(r'<label for="question">[^<]+</label>', page)
    assert 'maxlength="8000"' in page
    assert "csrfmiddlewaretoken" in page


def test_the_page_runs_no_script_but_our_own(client):
    response = client.get("/")
    page = response.content.decode()
    assert csp_of(response)["default-src"] == "'none'"
    assert csp_of(response)["script-src"] == "'self'"
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\son\w+=|\sstyle=", page)


def test_each_file_that_the_page_names_is_served(client):
    page = client.get("/").content.decode()
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert any(name.endswith(".js") for name in files)
    for name in files:
        with closing(client.get(name)) as response:
            assert response.status_code == 200


def test_the_script_never_builds_markup_from_text(client):
    with closing(client.get("/static/chat.js")) as response:
        script = b"".join(response.streaming_content).decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script)


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_the_page_is_for_reading(client, method):
    assert getattr(client, method)("/").status_code == 405


@pytest.mark.usefixtures("production")
def test_in_production_the_page_sends_nobody_to_sign_in(client):
    response = client.get("/")
    assert (response.status_code, response.headers["Location"]) == (302, "/accounts/login?next=/")


@pytest.mark.usefixtures("production")
def test_in_production_a_member_gets_the_page(owner):
    assert owner.browser.get("/").status_code == 200


@pytest.mark.usefixtures("production")
def test_signing_in_leads_back_to_the_page_and_is_on_record(owner, client):
    response = client.post("/accounts/login", {"username": "owner", "password": PASSWORD, "next": "/"})
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    assert client.get("/").status_code == 200
    assert Event.objects.filter(kind="login.succeeded", actor_ref=owner.user.subject_alias.subject_ref).count() == 1


@pytest.mark.parametrize(
    ("username", "password"), [("owner", "wrong"), ("nobody", PASSWORD), ("", ""), ("a\x00b", "x")]
)
def test_a_refused_sign_in_says_so_without_saying_why(owner, client, username, password):
    response = client.post("/accounts/login", {"username": username, "password": password})
    assert response.status_code == 200
    assert "do not match" in response.content.decode()
    assert "_auth_user_id" not in client.session


def test_a_refused_sign_in_is_on_record_without_the_name(owner, client):
    client.post("/accounts/login", {"username": "owner", "password": "wrong"})
    body = bytes(Event.objects.get(kind="login.failed").body)
    assert b"identifier_hash" in body
    assert b"owner" not in body


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_signing_in_leads_nowhere_else(owner, client, target):
    response = client.post("/accounts/login", {"username": "owner", "password": PASSWORD, "next": target})
    assert response.headers["Location"] == "/"


def test_signing_in_needs_the_csrf_token(owner):
    browser = Client(enforce_csrf_checks=True)
    assert browser.post("/accounts/login", {"username": "owner", "password": PASSWORD}).status_code == 403


def test_signing_out_ends_the_session(owner, settings):
    settings.ANONYMOUS_CHAT = False
    browser = owner.browser
    browser.post("/accounts/logout")
    assert browser.get("/").status_code == 302
    assert Event.objects.filter(kind="logout").count() == 1


def test_the_documentation_names_every_operation(client):
    page = client.get("/api/docs/").content.decode()
    for path in ("/chat", "/chat/enhanced", "/chat/sessions", "/chat/sessions/{session_id}", "/flags", "/healthz"):
        assert path in page
    assert "http://testserver" in page


@pytest.mark.parametrize("path", ["/", "/accounts/login", "/api/docs/"])
def test_a_page_may_not_be_framed_or_sniffed(client, path):
    headers = client.get(path).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Request-ID"]
