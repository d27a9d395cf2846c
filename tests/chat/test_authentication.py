import base64
import json
import secrets
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken
from rest_framework.test import APIClient

from audit.models import SubjectAlias
from chat.models import Session
from chat.tokens import token_create
from tests.cast import PASSWORD
from tests.chat.asking import answer_of, ask, problem_of, recorded

pytestmark = pytest.mark.django_db
BODY = json.dumps({"question": "?"})
GUARDED = [("POST", "/chat"), ("POST", "/chat/enhanced"), ("GET", "/chat/sessions"), ("GET", "/flags")]


def post(client, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/chat", BODY, content_type="application/json", headers=named)


@pytest.fixture
def production(settings):
    settings.ANONYMOUS_CHAT = False


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_token_is_its_users(owner, scheme):
    answer_of(post(APIClient(), Authorization=f"{scheme} {owner.token}"))
    assert Session.objects.get().subject_ref == SubjectAlias.objects.get(user=owner.user).subject_ref


def test_a_token_is_looked_up_with_its_user_in_one_query(owner, django_assert_num_queries):
    owner.get("/flags")
    # 1 token and user, 2 pseudonym.
    with django_assert_num_queries(2):
        assert owner.get("/flags").status_code == 200


REFUSED = {
    "unknown": "Bearer " + "0" * 64,
    "empty": "Bearer",
    "blank": "Bearer ",
    "two parts": "Bearer a b",
    "short": "Bearer x",
    "long": "Bearer " + "x" * 5000,
    "not ASCII": "Bearer caf\u00e9",
    "high bytes": "Bearer \xff\xfe\x80",
    "NUL": "Bearer a\x00b",
    "control": "Bearer \x01",
    "quoted": 'Bearer "x"',
    "SQL": "Bearer ' OR '1'='1",
}


@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED.keys())
def test_a_token_that_is_none_is_401_even_in_development(db, header):
    before = recorded()
    response = post(APIClient(), Authorization=header)
    problem_of(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    # The refusal itself.
    assert recorded() == before | {"Event": before["Event"] + 1}


@pytest.mark.parametrize("change", [str.upper, lambda token: token[:-1], lambda token: token + "0", lambda t: t[::-1]])
def test_a_changed_token_is_401(owner, change):
    assert change(owner.token) != owner.token
    problem_of(post(APIClient(), Authorization=f"Bearer {change(owner.token)}"), 401, "invalid_token")


def test_an_expired_token_is_401_and_stays_on_record(owner):
    token = token_create(user=owner.user, lifetime=timedelta(seconds=-1), source="tests")
    problem_of(post(APIClient(), Authorization=f"Bearer {token}"), 401, "invalid_token")
    assert AuthToken.objects.count() == 2


def test_a_token_of_an_inactive_user_is_401(owner):
    User.objects.update(is_active=False)
    problem_of(post(owner.client), 401, "invalid_token")


def test_a_revoked_token_is_401(owner):
    AuthToken.objects.all().delete()
    problem_of(post(owner.client), 401, "invalid_token")


def test_a_refusal_does_not_tell_why(owner):
    expired = token_create(user=owner.user, lifetime=timedelta(seconds=-1), source="tests")
    details = {
        problem_of(post(APIClient(), Authorization=f"Bearer {token}"), 401)["detail"] for token in (expired, "0" * 64)
    }
    assert len(details) == 1


def test_a_token_is_held_only_as_its_digest(owner):
    rows = str(list(AuthToken.objects.values()))
    assert owner.token not in rows


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.usefixtures("production")
def test_in_production_nobody_is_401(anonymous, method, path):
    response = anonymous.generic(method, path, BODY, content_type="application/json")
    problem_of(response, 401, "not_authenticated")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert not User.objects.filter(username="developer").exists()


@pytest.mark.usefixtures("production")
def test_in_production_401_comes_before_the_body_is_judged(anonymous):
    problem_of(anonymous.post("/chat", b"\xff", content_type="text/plain"), 401)


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Digest", "Negotiate"])
@pytest.mark.usefixtures("production")
def test_in_production_another_scheme_is_401(owner, scheme):
    credentials = base64.b64encode(f"owner:{PASSWORD}".encode()).decode()
    problem_of(post(APIClient(), Authorization=f"{scheme} {credentials}"), 401, "not_authenticated")


def test_in_development_nobody_is_the_developer(anonymous):
    answer_of(post(anonymous))
    answer_of(post(anonymous))
    developer = User.objects.get(username="developer")
    assert not developer.has_usable_password()
    assert set(Session.objects.values_list("subject_ref", flat=True)) == {developer.subject_alias.subject_ref}


def test_the_developer_has_no_part_in_a_members_session(owner, anonymous):
    session_id = ask(owner)["meta"]["session_id"]
    problem_of(anonymous.get(f"/chat/sessions/{session_id}"), 404)


def test_a_signed_in_browser_asks_with_its_csrf_token(owner):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner.user)
    browser.get("/")
    answer_of(post(browser, X_CSRFToken=browser.cookies["csrftoken"].value))
    assert Session.objects.get().subject_ref == owner.user.subject_alias.subject_ref


@pytest.mark.parametrize("token", ["", "x", "0" * 64, "caf\u00e9"])
def test_a_signed_in_browser_without_its_csrf_token_is_403(owner, token):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner.user)
    browser.get("/")
    problem_of(post(browser, X_CSRFToken=token), 403, "forbidden")
    assert Session.objects.count() == 0


def test_a_browser_may_read_without_a_csrf_token(owner):
    assert owner.browser.get("/chat/sessions").status_code == 200


def test_a_browser_whose_user_is_inactive_is_nobody(owner, settings):
    browser = owner.browser
    User.objects.update(is_active=False)
    settings.ANONYMOUS_CHAT = False
    problem_of(browser.get("/chat/sessions"), 401, "not_authenticated")


@pytest.mark.parametrize("cookie", ["x", "\x00", "a" * 4000, "' OR 1=1"])
@pytest.mark.usefixtures("production")
def test_a_made_up_session_cookie_is_401(db, cookie):
    browser = Client()
    browser.cookies["sessionid"] = cookie
    problem_of(browser.get("/chat/sessions"), 401)


def production_env() -> dict[str, str]:
    return {
        "ENVIRONMENT": "production",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "CONTENT_KEYS": "ci:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "AUDIT_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "0",
    }


def test_a_real_server_in_production_answers_a_token_and_nobody_else(gunicorn_server):
    server = gunicorn_server(production_env(), fresh=True, workers=1)
    problem_of(server.post_json("/chat", {"question": "?"}, token=""), 401, "not_authenticated")
    assert answer_of(server.post_json("/chat", {"question": "?"}))["meta"]["turn"] == 1
    assert server.get("/", token="").status == 302
