"""Flags in the admin: who sees them, who changes them, and what goes on record."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group

from audit.models import Event
from audit.services import subject_ref_of
from flags import snapshot
from flags.models import Flag, Setting, Switch
from tests.cast import Member

pytestmark = pytest.mark.django_db

PIPELINE, PROMPTS, DUAL, TURNS = (
    "USE_UNIFIED_PIPELINE", "FEATURE_DYNAMIC_PROMPTS", "CONV_DUAL_WRITE", "CONV_MAX_TURNS",
)  # fmt: skip
MODELS = ("flag", "switch", "setting")


def path_of(row: Any) -> str:
    return f"/admin/flags/{row._meta.model_name}/{row.pk}/change/"


def flag_of(key: str) -> Flag:
    return Flag.objects.get(name=key)


def flag_form(flag: Flag, **fields: Any) -> dict[str, Any]:
    """The form as the page would send it, with `fields` changed."""
    everyone = {None: "unknown", True: "true", False: "false"}[flag.everyone]
    form = {"everyone": everyone, "rollout_bp": flag.rollout_bp, "salt": flag.salt, "note": flag.note, "reason": ""}
    users = ",".join(str(pk) for pk in flag.users.values_list("pk", flat=True))
    return {**form, "users": users, "groups": list(flag.groups.values_list("pk", flat=True)), **fields}


def changes() -> list[dict[str, Any]]:
    rows = Event.objects.filter(kind="flag.changed").order_by("stream_seq")
    return [json.loads(bytes(row.body)) for row in rows]


@pytest.fixture(params=["admin", "flag_manager"])
def editor(request: pytest.FixtureRequest) -> Member:
    member: Member = request.getfixturevalue(request.param)
    return member


# Those who may change


def test_an_editor_switches_the_pipeline_off_with_a_reason(editor: Member) -> None:
    flag = flag_of(PIPELINE)
    form = flag_form(flag, everyone="false", reason="answers are wrong since noon")
    assert editor.browser.post(path_of(flag), form).status_code == 302
    snapshot.reset()
    assert snapshot.current().boolean(PIPELINE) is False
    event = changes()[-1]
    assert event["actor"] == subject_ref_of(editor.user)
    assert (event["facts"]["source"], event["facts"]["reason"]) == ("admin", "answers are wrong since noon")
    assert (event["facts"]["old"]["everyone"], event["facts"]["new"]["everyone"]) == (True, False)


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_kill_switch_is_not_changed_without_a_reason(editor: Member, reason: str) -> None:
    flag, before = flag_of(PIPELINE), len(changes())
    response = editor.browser.post(path_of(flag), flag_form(flag, everyone="false", reason=reason))
    assert response.status_code == 200
    assert "a reason is required" in response.content.decode()
    assert flag_of(PIPELINE).everyone is True
    assert len(changes()) == before


def test_another_flag_is_changed_without_a_reason(editor: Member) -> None:
    flag = flag_of(PROMPTS)
    assert editor.browser.post(path_of(flag), flag_form(flag, everyone="false")).status_code == 302
    assert flag_of(PROMPTS).everyone is False


def test_a_cohort_is_drawn_and_listed_in_one_change(editor: Member, owner: Member) -> None:
    flag, before = flag_of(PROMPTS), len(changes())
    group = Group.objects.get(name="operators")
    fields = {"everyone": "unknown", "rollout_bp": 2500, "users": str(owner.user.pk), "groups": [group.pk]}
    response = editor.browser.post(path_of(flag), flag_form(flag, reason="a trial", **fields))
    assert response.status_code == 302
    assert {(event["facts"]["reason"], event["facts"]["source"]) for event in changes()[before:]} == {
        ("a trial", "admin")
    }
    told = sorted(field for event in changes()[before:] for field in event["facts"]["new"])
    assert told == ["everyone", "groups_added", "rollout_bp", "salt", "users_added"]


def test_a_switch_is_turned_on(editor: Member) -> None:
    switch = Switch.objects.get(name=DUAL)
    response = editor.browser.post(path_of(switch), {"active": "on", "note": "", "reason": "moving stores"})
    assert response.status_code == 302
    assert Switch.objects.get(name=DUAL).active is True
    assert changes()[-1]["facts"]["reason"] == "moving stores"


@pytest.mark.parametrize(("sent", "kept"), [("5", 5), ("0", 0), ("", None), ("null", None)])
def test_a_setting_is_changed(editor: Member, sent: str, kept: int | None) -> None:
    setting = Setting.objects.get(key=TURNS)
    assert editor.browser.post(path_of(setting), {"value_json": sent, "reason": ""}).status_code == 302
    assert Setting.objects.get(key=TURNS).value_json == kept


@pytest.mark.parametrize("sent", ["-1", "201", "16.5", "true", '"5"', "[]", "{", "sixteen", "NaN", "1e999", "Infinity"])
def test_a_setting_out_of_bounds_is_refused_by_what_is_expected(editor: Member, sent: str) -> None:
    setting = Setting.objects.get(key=TURNS)
    response = editor.browser.post(path_of(setting), {"value_json": sent, "reason": ""})
    assert response.status_code == 200
    assert "errorlist" in response.content.decode()
    assert Setting.objects.get(key=TURNS).value_json is None


@pytest.mark.parametrize("share", ["-1", "10001", "50%", "", "1.5"])
def test_a_share_out_of_bounds_is_refused(editor: Member, share: str) -> None:
    flag = flag_of(PROMPTS)
    response = editor.browser.post(path_of(flag), flag_form(flag, everyone="unknown", rollout_bp=share))
    assert response.status_code == 200
    assert flag_of(PROMPTS).everyone is True


def test_a_reason_is_bounded(editor: Member) -> None:
    flag = flag_of(PROMPTS)
    response = editor.browser.post(path_of(flag), flag_form(flag, everyone="false", reason="x" * 501))
    assert response.status_code == 200
    assert flag_of(PROMPTS).everyone is True


@pytest.mark.parametrize("field", ["name", "description"])
def test_the_name_is_not_changed_by_a_forged_form(editor: Member, field: str) -> None:
    flag = flag_of(PROMPTS)
    editor.browser.post(path_of(flag), flag_form(flag, **{field: "FORGED"}))
    assert Flag.objects.get(pk=flag.pk).name == PROMPTS


# Pinned


@pytest.mark.parametrize("model", MODELS)
def test_a_pinned_flag_is_shown_as_pinned_and_by_which_variable(
    admin: Member, override_pins: Callable[..., None], model: str
) -> None:
    override_pins(USE_UNIFIED_PIPELINE=False, CONV_DUAL_WRITE=True, CONV_MAX_TURNS=5)
    key = {"flag": PIPELINE, "switch": DUAL, "setting": TURNS}[model]
    listed = admin.browser.get(f"/admin/flags/{model}/").content.decode()
    assert f"PINNED by {key}" in listed
    assert listed.count("PINNED") == 1


def test_a_pinned_flag_cannot_be_changed(editor: Member, override_pins: Callable[..., None]) -> None:
    override_pins(USE_UNIFIED_PIPELINE=True)
    flag, before = flag_of(PIPELINE), len(changes())
    response = editor.browser.post(path_of(flag), flag_form(flag, everyone="false", reason="now"))
    assert response.status_code == 200
    assert "pinned by the environment variable USE_UNIFIED_PIPELINE" in response.content.decode()
    assert flag_of(PIPELINE).everyone is True
    assert len(changes()) == before


def test_what_is_in_force_is_listed(admin: Member) -> None:
    Flag.objects.filter(name=PROMPTS).update(everyone=None, rollout_bp=2550)
    Setting.objects.filter(key=TURNS).update(value_json=7)
    snapshot.reset()
    flags = admin.browser.get("/admin/flags/flag/").content.decode()
    settings = admin.browser.get("/admin/flags/setting/").content.decode()
    assert '<td class="field-in_force">25.5 % and the listed</td>' in flags
    assert '<td class="field-in_force">True</td>' in flags
    assert '<td class="field-in_force">7</td>' in settings
    assert '<td class="field-kind">kill-switch</td>' in flags


# A row of an earlier release


@pytest.fixture(params=[Flag, Switch, Setting])
def left_over(request: pytest.FixtureRequest) -> Any:
    row = request.param(**{"key" if request.param is Setting else "name": "LEFT_OVER"})
    row.save()
    return row


def test_a_flag_that_is_no_longer_registered_is_listed_as_such(admin: Member, left_over: Any) -> None:
    listed = admin.browser.get(f"/admin/flags/{left_over._meta.model_name}/")
    assert listed.status_code == 200
    assert "not registered" in listed.content.decode()


def test_a_flag_that_is_no_longer_registered_is_shown_and_not_changed(admin: Member, left_over: Any) -> None:
    assert admin.browser.get(path_of(left_over)).status_code == 200
    form = {"value_json": "1", "active": "on", "everyone": "true", "rollout_bp": "1", "salt": "s", "reason": "why"}
    response = admin.browser.post(path_of(left_over), form)
    assert response.status_code == 200
    assert "not a registered" in response.content.decode()


# Those who may look, and those who may not


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("looker", ["reviewer", "operator"])
def test_a_looker_sees_the_flags(request: pytest.FixtureRequest, looker: str, model: str) -> None:
    member: Member = request.getfixturevalue(looker)
    assert member.browser.get(f"/admin/flags/{model}/").status_code == 200


@pytest.mark.parametrize("model", [Flag, Switch, Setting])
@pytest.mark.parametrize("looker", ["reviewer", "operator"])
def test_a_looker_sees_a_flag_and_gets_no_form(request: pytest.FixtureRequest, looker: str, model: Any) -> None:
    member: Member = request.getfixturevalue(looker)
    page = member.browser.get(path_of(model.objects.first()))
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()


@pytest.mark.parametrize("looker", ["reviewer", "operator"])
def test_a_looker_changes_nothing(request: pytest.FixtureRequest, looker: str) -> None:
    member: Member = request.getfixturevalue(looker)
    flag = flag_of(PROMPTS)
    assert member.browser.post(path_of(flag), flag_form(flag, everyone="false")).status_code == 403
    assert flag_of(PROMPTS).everyone is True


@pytest.mark.parametrize("path", [f"/admin/flags/{model}/" for model in MODELS])
def test_a_plain_user_and_nobody_are_sent_to_sign_in(owner: Member, client: Any, path: str) -> None:
    for browser in (owner.browser, client):
        response = browser.get(path)
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/")


def test_staff_without_a_group_see_no_flags(owner: Member) -> None:
    owner.user.is_staff = True
    owner.user.save()
    assert owner.browser.get("/admin/flags/flag/").status_code == 403


def test_a_plain_user_changes_nothing(owner: Member) -> None:
    flag = flag_of(PROMPTS)
    assert owner.browser.post(path_of(flag), flag_form(flag, everyone="false")).status_code == 302
    assert flag_of(PROMPTS).everyone is True


@pytest.mark.parametrize("model", MODELS)
def test_nobody_adds_a_flag_by_hand(editor: Member, model: str) -> None:
    assert editor.browser.get(f"/admin/flags/{model}/add/").status_code == 403
    assert editor.browser.post(f"/admin/flags/{model}/add/", {"name": "NEW", "key": "NEW"}).status_code == 403


@pytest.mark.parametrize("model", [Flag, Switch, Setting])
def test_nobody_deletes_a_flag_by_hand(editor: Member, model: Any) -> None:
    row, before = model.objects.first(), model.objects.count()
    assert editor.browser.post(path_of(row).replace("change", "delete"), {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    editor.browser.post(f"/admin/flags/{model._meta.model_name}/", action)
    assert model.objects.count() == before


def test_waffle_s_own_pages_are_not_offered(admin: Member) -> None:
    index = admin.browser.get("/admin/").content.decode()
    assert "/admin/waffle/" not in index
    assert "/admin/flags/flag/" in index


@pytest.mark.parametrize("more", [0, 20])
def test_the_list_costs_the_same_with_more_flags(
    admin: Member, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any, more: int
) -> None:
    monkeypatch.setattr(snapshot, "FRESH_SECONDS", 3600)
    snapshot.current()
    Flag.objects.bulk_create(Flag(name=f"MORE_{number}") for number in range(more))
    admin.browser.get("/healthz")
    # session; user; count of what is filtered; count of all; flags
    with django_assert_num_queries(5):
        admin.browser.get("/admin/flags/flag/")


def test_django_s_own_log_holds_no_reason(editor: Member) -> None:
    flag = flag_of(PIPELINE)
    editor.browser.post(path_of(flag), flag_form(flag, everyone="false", reason="planted reason"))
    assert "planted reason" not in "".join(LogEntry.objects.values_list("change_message", flat=True))
