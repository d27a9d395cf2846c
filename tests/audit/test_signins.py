"""Signing in, failing to, and signing out are events without names."""

import json
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.test import Client

from audit.models import Event
from audit.services import subject_ref_of
from chat.tokens import token_create, tokens_revoke
from tests.cast import PASSWORD, Member

PAGES = ["/accounts/login", "/admin/login/"]


@pytest.fixture
def somebody(db: None) -> User:
    return User.objects.create_user("planted.name@mail.example", password=PASSWORD, is_staff=True)


def sign_in(client: Client, path: str, username: str, password: str = PASSWORD) -> Any:
    return client.post(path, {"username": username, "password": password}, headers={"User-Agent": "planted-agent"})


def events(stream: str = "auth") -> list[dict[str, Any]]:
    return [json.loads(bytes(row.body)) for row in Event.objects.filter(stream=stream).order_by("stream_seq")]


@pytest.mark.parametrize("path", PAGES)
def test_a_sign_in_is_recorded_by_pseudonym(client: Client, somebody: User, path: str) -> None:
    assert sign_in(client, path, somebody.username).status_code == 302
    (event,) = events()
    assert (event["kind"], event["actor"], event["facts"]) == ("login.succeeded", subject_ref_of(somebody), {})


@pytest.mark.parametrize("path", ["/accounts/logout", "/admin/logout/"])
def test_a_sign_out_is_recorded_by_pseudonym(client: Client, somebody: User, path: str) -> None:
    sign_in(client, "/accounts/login", somebody.username)
    client.post(path)
    assert [(event["kind"], event["actor"]) for event in events()[1:]] == [("logout", subject_ref_of(somebody))]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "username", ["planted.name@mail.example", "planted-nobody", "planted \N{GREEK SMALL LETTER ALPHA}"]
)
def test_a_refused_sign_in_is_recorded_without_name_and_password(
    client: Client, somebody: User, path: str, username: str
) -> None:
    assert sign_in(client, path, username, "planted-password").status_code == 200
    (event,) = events()
    assert (event["kind"], event["actor"]) == ("login.failed", "")
    assert list(event["facts"]) == ["identifier_hash"]
    assert "planted" not in json.dumps(event, ensure_ascii=False)


def test_an_inactive_account_is_refused_and_recorded(client: Client, somebody: User) -> None:
    User.objects.update(is_active=False)
    assert sign_in(client, "/accounts/login", somebody.username).status_code == 200
    assert [event["kind"] for event in events()] == ["login.failed"]


def test_repeated_attempts_on_one_name_can_be_told_from_others(client: Client, somebody: User) -> None:
    for username in ("one", "one", "other"):
        sign_in(client, "/accounts/login", username, "wrong")
    hashes = [event["facts"]["identifier_hash"] for event in events()]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_name_cannot_be_guessed_without_the_key(db: None, settings: Any) -> None:
    authenticate(username="one", password="wrong")
    settings.SECRET_KEY = "another" * 10
    authenticate(username="one", password="wrong")
    first, second = (event["facts"]["identifier_hash"] for event in events())
    assert first != second


@pytest.mark.parametrize("username", [None, "", "\ud800", "x" * 10_000, "nul\x00"])
def test_an_odd_name_is_refused_and_recorded_as_any_other(db: None, settings: Any, username: str | None) -> None:
    settings.AUTHENTICATION_BACKENDS = ["tests.audit.test_signins.RefusingBackend"]
    assert authenticate(username=username, password="wrong") is None
    assert [len(event["facts"]["identifier_hash"]) for event in events()] == [32]


class RefusingBackend:
    """Takes nobody, without looking into the database, which would choke on some names."""

    def authenticate(self, request: Any, username: str | None = None, password: str | None = None) -> None:
        return None


def test_signing_out_without_having_signed_in_is_no_event(client: Client, db: None) -> None:
    client.post("/accounts/logout")
    assert events() == []


def test_a_token_is_made_and_revoked_on_record_without_the_token(owner: Member) -> None:
    before = set(Event.objects.values_list("pk", flat=True))
    token = token_create(user=owner.user, lifetime=None, source="tests")
    tokens_revoke(user=owner.user, source="tests")
    rows = Event.objects.exclude(pk__in=before).order_by("id")
    bodies = [bytes(row.body).decode() for row in rows]
    assert {row.kind for row in rows} == {"token.created", "token.revoked"}
    assert not any(token in body or owner.token in body or "owner" in body for body in bodies)
    assert all(json.loads(body)["facts"]["for_ref"] == subject_ref_of(owner.user) for body in bodies)
