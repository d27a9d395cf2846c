"""Flags over the API for operators, and for any OpenFeature client."""

import json
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Event
from audit.services import subject_ref_of
from flags.models import Flag, FlagUse
from flags.permissions import MODELS
from flags.registry import REGISTRY
from flags.services import flag_roll_out, uses_flush
from flags.snapshot import bucket, current, reset
from flags.status import statuses
from tests.cast import Member, permit

pytestmark = pytest.mark.django_db
KILL, PROMPTS = "USE_UNIFIED_PIPELINE", "FEATURE_DYNAMIC_PROMPTS"
PERMITTED = [("flag", PROMPTS, False), ("switch", "CONV_DUAL_WRITE", True), ("setting", "CONV_MAX_TURNS", 4)]
OFREP = "/ofrep/v1/evaluate/flags"


def put(member: Member, key: str, **body: Any) -> Any:
    return member.client.put(f"/flags/{key}", json.dumps(body), content_type="application/json")


def share(percent: float) -> None:
    flag_roll_out(key=PROMPTS, rollout_bp=int(percent * 100), actor_ref="", reason="", source="tests")
    reset()


# Operators


def test_a_flag_manager_changes_a_flag(flag_manager: Member) -> None:
    response = put(flag_manager, KILL, value=False, reason="wrong since noon")
    assert response.status_code == 200
    assert (response.json()["state"], response.json()["last_change"]["reason"]) == ("off", "wrong since noon")
    event = Event.objects.filter(kind="flag.changed").latest("stream_seq")
    assert event.actor_ref == subject_ref_of(flag_manager.user)
    changes = flag_manager.get(f"/flags/{KILL}/history").json()["changes"]
    assert changes[0]["actor"] == "flag_manager"


def test_a_share_is_given_in_percent(flag_manager: Member) -> None:
    assert put(flag_manager, PROMPTS, rollout_percent=2.5).json()["state"] == "2.5 %"
    assert Flag.objects.get(name=PROMPTS).rollout_bp == 250


@pytest.mark.parametrize(("who", "reads", "writes"), [
    ("owner", 403, 403), ("reviewer", 200, 403), ("operator", 200, 403), ("flag_manager", 200, 200),
    ("admin", 200, 200),
])  # fmt: skip
def test_who_may(request: pytest.FixtureRequest, who: str, reads: int, writes: int) -> None:
    member: Member = request.getfixturevalue(who)
    assert member.get(f"/flags/{KILL}").status_code == reads
    assert member.get(f"/flags/{KILL}/history").status_code == reads
    assert put(member, KILL, value=True, reason="a test").status_code == writes


@pytest.mark.parametrize(("model", "key", "value"), PERMITTED)
def test_the_admins_permission_of_a_flag_counts_here_too(stranger: Member, model: str, key: str, value: Any) -> None:
    permit(stranger, f"change_{model}")
    for _, other, others in PERMITTED:
        allowed = other == key
        assert stranger.get(f"/flags/{other}").status_code == (200 if allowed else 403)
        assert stranger.get(f"/flags/{other}/history").status_code == (200 if allowed else 403)
        response = put(stranger, other, value=others, reason="a test")
        assert response.status_code == (200 if allowed else 403)
        if not allowed:
            assert f"flags.change_{MODELS[REGISTRY[other].type]}" in response.json()["detail"]
            assert "group flag managers" in response.json()["detail"]


def test_without_a_sign_in_it_is_401_and_not_403(anonymous: Any, settings: Any) -> None:
    settings.ANONYMOUS_CHAT = False
    assert anonymous.get(f"/flags/{KILL}").status_code == 401


@pytest.mark.parametrize(("body", "status", "code"), [
    ({"value": False}, 400, "bad_flag_value"),
    ({"value": "off", "reason": "text is no switch"}, 400, "bad_flag_value"),
    ({"value": True, "rollout_percent": 5, "reason": "both"}, 400, "bad_input"),
    ({"reason": "neither"}, 400, "bad_input"),
    ({"rollout_percent": 101, "reason": "too much"}, 400, "bad_input"),
    ({"value": True, "reasons": "misspelt"}, 400, "bad_input"),
])  # fmt: skip
def test_a_bad_change_is_refused_and_nothing_recorded(
    flag_manager: Member, body: dict[str, Any], status: int, code: str
) -> None:
    before = Event.objects.count()
    response = put(flag_manager, KILL, **body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert Event.objects.count() == before


def test_an_unknown_flag_is_404(flag_manager: Member) -> None:
    for response in (
        flag_manager.get("/flags/NOPE"),
        flag_manager.get("/flags/NOPE/history"),
        put(flag_manager, "NOPE", value=1),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "flag_not_found")


def test_a_pinned_flag_is_409(flag_manager: Member, override_pins: Any) -> None:
    override_pins(**{KILL: True})
    assert put(flag_manager, KILL, value=False, reason="a test").status_code == 409


def test_what_is_read_at_the_start_is_409_and_says_how(flag_manager: Member) -> None:
    response = put(flag_manager, "REDIS_SOCKET_TIMEOUT_MS", value=500)
    assert response.status_code == 409
    assert "set the variable REDIS_SOCKET_TIMEOUT_MS and restart" in response.json()["detail"]


# Staleness


def test_a_flag_older_than_its_lifetime_or_unused_is_stale() -> None:
    Flag.objects.filter(name=PROMPTS).update(created=timezone.now() - timezone.timedelta(days=181))
    Flag.objects.filter(name=KILL).update(created=timezone.now() - timezone.timedelta(days=31))
    prompts, kill = statuses([PROMPTS, KILL])
    assert "lifetime of 180 days" in prompts.stale
    assert "30 days" in kill.stale
    current().boolean(KILL)
    uses_flush()
    (kill,) = statuses([KILL])
    assert kill.stale == ""
    assert kill.evaluated_at is not None


def test_looking_at_all_flags_is_no_use_of_them(owner: Member) -> None:
    uses_flush()
    FlagUse.objects.all().delete()
    owner.get("/flags")
    statuses()
    uses_flush()
    assert not FlagUse.objects.filter(key=PROMPTS).exists()


# OFREP


def evaluate(member: Member, key: str, **context: Any) -> Any:
    return member.post_json(f"{OFREP}/{key}", {"context": context})


def test_a_flag_is_evaluated_for_the_caller(owner: Member) -> None:
    answer = evaluate(owner, KILL).json()
    assert answer == {
        "key": KILL, "value": True, "reason": "STATIC", "variant": "on",
        "metadata": {"kind": "kill-switch", "pinned": False},
    }  # fmt: skip


def test_a_share_is_split_by_targeting_key(owner: Member) -> None:
    share(50)
    salt = Flag.objects.get(name=PROMPTS).salt
    for n in range(20):
        answer = evaluate(owner, PROMPTS, targetingKey=f"subject-{n}").json()
        assert answer["reason"] == "SPLIT"
        assert answer["value"] is (bucket(salt, PROMPTS, f"subject-{n}") < 5000)


def test_a_listed_user_is_targeted(owner: Member, flag_manager: Member, stranger: Member) -> None:
    share(0)
    Flag.objects.get(name=PROMPTS).users.add(owner.user)
    reset()
    assert evaluate(owner, PROMPTS).json()["reason"] == "TARGETING_MATCH"
    key = subject_ref_of(owner.user)
    assert evaluate(flag_manager, PROMPTS, targetingKey=key).json()["value"] is True
    # The lists are not for everyone to see.
    assert evaluate(stranger, PROMPTS, targetingKey=key).json()["value"] is False


@pytest.mark.parametrize(("body", "code"), [
    (b"{", "PARSE_ERROR"), (b"[]", "PARSE_ERROR"),
    (b'{"context": []}', "INVALID_CONTEXT"), (b'{"context": {"targetingKey": 5}}', "INVALID_CONTEXT"),
    (b'{"context": {"targetingKey": ""}}', "INVALID_CONTEXT"),
])  # fmt: skip
def test_a_bad_context_is_400_in_the_protocols_shape(owner: Member, body: bytes, code: str) -> None:
    for path, key in ((f"{OFREP}/{KILL}", {"key": KILL}), (OFREP, {})):
        response = owner.client.post(path, body, content_type="application/json")
        error = response.json()
        assert response.status_code == 400
        assert error.pop("errorDetails")
        assert error == {**key, "errorCode": code}


def test_an_unknown_flag_is_not_found(owner: Member) -> None:
    response = evaluate(owner, "NOPE")
    assert response.status_code == 404
    assert (response.json()["key"], response.json()["errorCode"]) == ("NOPE", "FLAG_NOT_FOUND")


def test_without_a_token_it_is_401(anonymous: Any, settings: Any) -> None:
    settings.ANONYMOUS_CHAT = False
    response = anonymous.post(OFREP, {}, format="json")
    assert response.status_code == 401
    assert response.json().keys() == {"errorDetails"}


def test_all_flags_come_at_once_with_an_etag_over_context_and_flags(owner: Member) -> None:
    share(50)
    first = owner.post_json(OFREP, {"context": {"targetingKey": "a"}})
    assert [flag["key"] for flag in first.json()["flags"]] == list(REGISTRY)
    etag = first.headers["ETag"]

    def again(**context: Any) -> int:
        response = owner.post_json(OFREP, {"context": context}, If_None_Match=etag)
        assert response.headers["ETag"] != etag or response.status_code == 304
        status: int = response.status_code
        return status

    assert again(targetingKey="a") == 304
    assert again(targetingKey="a", plan="other") == 200
    Flag.objects.filter(name=KILL).update(everyone=False)
    reset()
    assert again(targetingKey="a") == 200
