import io
import re
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from audit.models import Event
from chat.models import Session, Turn
from tests.chat.asking import QUESTION, ask

pytestmark = pytest.mark.django_db


def run(*arguments, **options) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def session_in(printed: str) -> str:
    return re.search(r"Session ([0-9a-f-]{36})", printed)[1]


def test_ask_prints_the_answer_its_sources_the_disclaimer_and_the_session():
    printed = run("ask", QUESTION)
    assert "865" in printed
    assert re.search(r"^\[1\] .+ \(.+\)$", printed, re.MULTILINE)
    assert "Verify against NCC" in printed
    assert str(Session.objects.get().pk) == session_in(printed)


def test_ask_records_its_turn_under_the_user_terminal():
    run("ask", QUESTION)
    user = User.objects.get(username="terminal")
    assert not user.check_password("")
    assert Session.objects.get().subject_ref == user.subject_alias.subject_ref
    assert Event.objects.filter(kind="turn.completed").count() == 1


@pytest.mark.parametrize(("options", "endpoint"), [((), "enhanced"), (("--plain",), "chat")])
def test_ask_uses_the_endpoint_that_was_asked_for(options, endpoint):
    run("ask", QUESTION, *options)
    assert Turn.objects.get().endpoint == endpoint


def test_ask_goes_on_with_a_session():
    session_id = session_in(run("ask", QUESTION))
    printed = run("ask", "and its minimum height?", "--session", session_id)
    assert session_in(printed) == session_id
    assert "865" in printed


@pytest.mark.parametrize("question", ["", "  ", "\x00", "a" * 8001])
def test_ask_refuses_a_bad_question_in_plain_words(question):
    with pytest.raises(CommandError, match=r"question: \w+"):
        run("ask", question)
    assert Turn.objects.count() == 0


def test_ask_refuses_a_malformed_session():
    with pytest.raises(CommandError, match="session_id: Must"):
        run("ask", QUESTION, "--session", "x")


def test_ask_refuses_a_strangers_session_in_plain_words(owner):
    session_id = ask(owner)["meta"]["session_id"]
    with pytest.raises(CommandError, match="not yours"):
        run("ask", QUESTION, "--session", session_id)


def test_token_create_prints_a_token_that_works(owner):
    token = run("token", "create", "owner").strip()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/chat/sessions").status_code == 200
    assert token not in str(list(AuthToken.objects.values()))


@pytest.mark.parametrize(("options", "days"), [({}, 90), ({"days": 1}, 1), ({"days": 3650}, 3650)])
def test_token_create_sets_the_lifetime(owner, options, days):
    AuthToken.objects.all().delete()
    run("token", "create", "owner", **options)
    left = AuthToken.objects.get().expiry - timezone.now()
    assert timedelta(days=days, minutes=-1) < left <= timedelta(days=days)


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_a_bad_lifetime_changes_nothing(owner, days):
    before = list(AuthToken.objects.values_list("digest"))
    with pytest.raises(CommandError, match="1 to 3650"):
        run("token", "create", "owner", days=days, only=True)
    assert list(AuthToken.objects.values_list("digest")) == before


def test_a_bad_lifetime_makes_no_user(db):
    with pytest.raises(CommandError):
        run("token", "create", "newcomer", days=0, make_user=True)
    assert not User.objects.filter(username="newcomer").exists()


def test_token_create_only_revokes_the_others(owner):
    before = AuthToken.objects.get().digest
    run("token", "create", "owner", only=True)
    assert AuthToken.objects.count() == 1
    assert AuthToken.objects.get().digest != before


def test_token_revoke_ends_all_of_a_users_tokens(owner, stranger):
    run("token", "create", "owner")
    assert run("token", "revoke", "owner") == "2 revoked\n"
    assert owner.get("/chat/sessions").status_code == 401
    assert stranger.get("/chat/sessions").status_code == 200


def test_token_list_shows_no_token(owner):
    printed = run("token", "list", "owner")
    assert printed.count("\n") == 1
    assert "expires" in printed
    assert owner.token not in printed


def test_token_wants_a_user_that_exists(db):
    with pytest.raises(CommandError, match="no user newcomer"):
        run("token", "create", "newcomer")


def test_token_makes_a_user_without_a_password_when_told_to(db):
    run("token", "create", "newcomer", make_user=True)
    assert not User.objects.get(username="newcomer").has_usable_password()


def test_tokens_made_and_revoked_are_on_record_without_names(owner):
    before = Event.objects.count()
    run("token", "create", "owner")
    run("token", "revoke", "owner")
    kinds = list(Event.objects.order_by("pk").values_list("kind", flat=True))[before:]
    # The owner had one already.
    assert kinds == ["token.created", "token.revoked", "token.revoked"]
    assert not any(b'"owner"' in bytes(event.body) for event in Event.objects.all())


def test_revoking_nothing_is_no_event(owner):
    AuthToken.objects.all().delete()
    before = Event.objects.count()
    assert run("token", "revoke", "owner") == "0 revoked\n"
    assert Event.objects.count() == before


def test_a_session_of_nobody_is_started_by_ask():
    session_id = str(uuid.uuid4())
    assert session_in(run("ask", QUESTION, "--session", session_id)) == session_id
