"""What changes something and the kinds of its events, and what changes nothing and why. One entry per route and method.

A key is "METHOD route-name", or "METHOD pattern" for a route without a name. A new route needs an entry: in RECIPES one
that makes the change, as somebody who may, or in UNCHANGING the reason why there is nothing to record.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken

from flags.models import Flag, Setting, Switch
from tests.recording.world import FROM, PASSWORD, World

NEW = "planted-Password-4712"
RUNNING = "00000000-0000-4000-8000-000000000001"
Response = Any


@dataclass(frozen=True)
class Recipe:
    """`act` makes the change and returns the response; each of `kinds` must be among the new events."""

    kinds: frozenset[str]
    act: Callable[[World], Response]


@dataclass(frozen=True)
class Unchanging:
    """`act` calls the route with success, after `prepare`; without it a form is sent that deletes a row, or {}."""

    reason: str
    act: Callable[[World], Response] | None = None
    prepare: Callable[[World], object] | None = None


def made(*kinds: str) -> Callable[[Callable[[World], Response]], Recipe]:
    return lambda act: Recipe(frozenset(kinds), act)


def admin(name: str, *arguments: object) -> str:
    return reverse(f"admin:{name}", args=arguments)


def post(world: World, name: str, /, *arguments: object, **form: Any) -> Response:
    return world.browser.post(admin(name, *arguments), form)


def delete_selected(world: World, name: str, rows: list[Any]) -> Response:
    return post(world, name, action="delete_selected", _selected_action=[row.pk for row in rows], post="yes")


def sign_in(path: str) -> Callable[[World], Response]:
    return lambda w: Client(**FROM).post(path, {"username": w.root.username, "password": PASSWORD})


def session_delete(world: World) -> Response:
    session_id = world.ask().json()["meta"]["session_id"]
    return world.client().delete(f"/chat/sessions/{session_id}")


def turn_stop(world: World) -> Response:
    response = world.client().post(f"/chat/turns/{RUNNING}/stop")
    assert response.status_code == 202
    return response


def user_change(world: World) -> Response:
    return post(
        world, "auth_user_change", world.person.pk, username="planted-renamed", email="planted@elsewhere.example",
        is_active="on", is_staff="on", groups=[world.group.pk], user_permissions=[_permission().pk],
        date_joined_0="2026-01-01", date_joined_1="00:00:00", first_name="planted", last_name="",
    )  # fmt: skip


def _permission() -> Permission:
    return Permission.objects.get(codename="view_event")


def flag_change(world: World) -> Response:
    flag = Flag.objects.get(name="FEATURE_DYNAMIC_PROMPTS")
    form = {"everyone": "false", "rollout_bp": 0, "salt": flag.salt, "users": str(world.person.pk), "reason": "trial"}
    return post(world, "flags_flag_change", flag.pk, **form)


def switch_change(world: World) -> Response:
    switch = Switch.objects.get(name="CONV_DUAL_WRITE")
    return post(world, "flags_switch_change", switch.pk, active="on", note="", reason="a trial")


def setting_change(world: World) -> Response:
    # Not the one whose change is asked for: that would be suspended, which is another event.
    setting = Setting.objects.get(key="RENDER_P95_BUDGET_MS")
    return post(world, "flags_setting_change", setting.pk, value_json="160", reason="a trial")


def password_change(world: World) -> Response:
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    return post(world, "password_change", **form)


def turn_id(world: World) -> str:
    asked: str = world.ask().json()["meta"]["turn_id"]
    return asked


RECIPES: dict[str, Recipe] = {
    # Questions and conversations.
    "POST chat": made("turn.completed")(lambda w: w.ask()),
    "POST chat-enhanced": made("turn.completed")(lambda w: w.ask("/chat/enhanced")),
    "DELETE session": made("session.deleted")(session_delete),
    # What reviewers do.
    "POST review-reveal": made("content.revealed")(
        lambda w: w.browser.post(reverse("review-reveal", args=[turn_id(w)]), {"reason": "a complaint"})
    ),
    "POST review-api-reveal": made("content.revealed")(
        lambda w: w.browser.post(
            reverse("review-api-reveal", args=[turn_id(w)]), {"reason": "a complaint"}, content_type="application/json"
        )
    ),
    "POST review-export": made("export.made")(
        lambda w: w.browser.post(reverse("review-export"), {"reason": "a complaint", "format": "csv"})
    ),
    "POST review-api-export": made("export.made")(
        lambda w: w.browser.post(
            reverse("review-api-export"), {"reason": "a complaint"}, content_type="application/json"
        )
    ),
    # Signing in and out.
    "POST login": made("login.succeeded")(sign_in("/accounts/login")),
    "POST logout": made("logout")(lambda w: w.browser.post("/accounts/logout")),
    "POST admin:login": made("login.succeeded")(sign_in("/admin/login/")),
    "POST admin:logout": made("logout")(lambda w: post(w, "logout")),
    "POST admin:password_change": made("user.changed")(password_change),
    # Flags.
    "PUT flag": made("flag.changed")(
        lambda w: w.browser.put("/flags/CONV_DUAL_WRITE", {"value": True}, content_type="application/json")
    ),
    "POST admin-flag-off": made("flag.changed")(
        lambda w: w.browser.post(reverse("admin-flag-off", args=["USE_UNIFIED_PIPELINE"]), {"reason": "a trial"})
    ),
    "POST admin:flags_flag_change": made("flag.changed", "admin.edited")(flag_change),
    "POST admin:flags_switch_change": made("flag.changed", "admin.edited")(switch_change),
    "POST admin:flags_setting_change": made("flag.changed", "admin.edited")(setting_change),
    "POST admin:flags_guardedrollout_add": made("rollout.cancelled", "rollout.started")(
        lambda w: [
            post(w, "flags_guardedrollout_change", w.rollout.pk, act="cancel", reason="a trial"),
            post(w, "flags_guardedrollout_add", key=w.rollout.key, hold_minutes="5", reason="a trial"),
        ][1]
    ),
    "POST admin:flags_guardedrollout_change": made("rollout.cancelled")(
        lambda w: post(w, "flags_guardedrollout_change", w.rollout.pk, act="cancel", reason="a trial")
    ),
    "POST admin:flags_changerequest_add": made("change.requested", "change.applied", "flag.changed")(
        lambda w: post(w, "flags_changerequest_add", key="CONV_DUAL_WRITE", kind="value", value="on", reason="a trial")
    ),
    "POST admin:flags_changerequest_change": made("change.rejected")(
        lambda w: post(w, "flags_changerequest_change", w.request.pk, act="reject", reason="a trial")
    ),
    # Users, groups and tokens.
    "POST admin:auth_user_add": made("user.created", "admin.edited")(
        lambda w: post(w, "auth_user_add", username="planted-new", usable_password="true", password1=NEW, password2=NEW)
    ),
    "POST admin:auth_user_change": made("user.changed", "user.permissions_changed", "admin.edited")(user_change),
    "POST admin:auth_user_delete": made("user.deleted", "token.revoked", "admin.edited")(
        lambda w: post(w, "auth_user_delete", w.person.pk, post="yes")
    ),
    "POST admin:auth_user_changelist": made("user.deleted", "token.revoked", "admin.edited")(
        lambda w: delete_selected(w, "auth_user_changelist", [w.person, w.other])
    ),
    "POST admin:auth_user_password_change": made("user.changed", "admin.edited")(
        lambda w: post(
            w, "auth_user_password_change", w.person.pk, usable_password="true", password1=NEW, password2=NEW
        )
    ),
    "POST admin:auth_group_add": made("group.created", "group.permissions_changed", "admin.edited")(
        lambda w: post(w, "auth_group_add", name="planted-new", permissions=[_permission().pk])
    ),
    "POST admin:auth_group_change": made("group.changed", "group.permissions_changed", "admin.edited")(
        lambda w: post(w, "auth_group_change", w.group.pk, name="planted-renamed", permissions=[_permission().pk])
    ),
    "POST admin:auth_group_delete": made("group.deleted", "admin.edited")(
        lambda w: post(w, "auth_group_delete", w.group.pk, post="yes")
    ),
    "POST admin:auth_group_changelist": made("group.deleted", "admin.edited")(
        lambda w: delete_selected(w, "auth_group_changelist", [w.group])
    ),
    "POST admin:knox_authtoken_add": made("token.created", "admin.edited")(
        lambda w: post(w, "knox_authtoken_add", user=w.person.pk)
    ),
    "POST admin:knox_authtoken_delete": made("token.revoked", "admin.edited")(
        lambda w: post(w, "knox_authtoken_delete", w.person.auth_token_set.get().pk, post="yes")
    ),
    "POST admin:knox_authtoken_changelist": made("token.revoked", "admin.edited")(
        lambda w: delete_selected(w, "knox_authtoken_changelist", list(AuthToken.objects.all()))
    ),
}

READ_ONLY = Unchanging("its rows are read here and written elsewhere, by loading files or by the product itself")
SERVICES = Unchanging("its rows are made and moved by services, on pages of their own")
REGISTERED = Unchanging("its rows come from the registry in the code; none is added or deleted by hand")
READING = Unchanging("it reads, whatever the method")
OFREP = Unchanging("it evaluates flags; OFREP asks by POST")
# Keys may hold *; each is called and must leave every table as it was.
UNCHANGING: dict[str, Unchanging] = {
    "POST turn-stop": Unchanging(
        "the turn's own event says how it ended: turn.aborted", turn_stop, lambda w: w.stream(RUNNING)
    ),
    "POST review-verify": Unchanging("it computes proofs from what is there"),
    "POST ofrep-flags": OFREP,
    "POST ofrep-flag": OFREP,
    "PUT login": Unchanging("Django's form views take PUT for POST and find no fields in it"),
    # The admin asks for POST before it changes anything.
    "PUT admin*": READING,
    "PATCH admin*": READING,
    "DELETE admin*": READING,
    "POST admin:index": READING,
    "POST admin:app_list": READING,
    "POST admin:view_on_site": READING,
    "POST admin:*_history": READING,
    "POST admin/(?P<url>.*)$": READING,
    "POST admin/*/<path:object_id>/": Unchanging("it sends to the row's page"),
    "POST admin:audit_event_*": READ_ONLY,
    "POST admin:knowledge_document_*": READ_ONLY,
    "POST admin:knowledge_passage_*": READ_ONLY,
    "POST admin:knox_authtoken_change": Unchanging("a token is made and deleted, never edited"),
    "POST admin:flags_flag_changelist": REGISTERED,
    "POST admin:flags_flag_add": REGISTERED,
    "POST admin:flags_flag_delete": REGISTERED,
    "POST admin:flags_switch_changelist": REGISTERED,
    "POST admin:flags_switch_add": REGISTERED,
    "POST admin:flags_switch_delete": REGISTERED,
    "POST admin:flags_setting_changelist": REGISTERED,
    "POST admin:flags_setting_add": REGISTERED,
    "POST admin:flags_setting_delete": REGISTERED,
    "POST admin:flags_guardedrollout_changelist": SERVICES,
    "POST admin:flags_guardedrollout_delete": SERVICES,
    "POST admin:flags_changerequest_changelist": SERVICES,
    "POST admin:flags_changerequest_delete": SERVICES,
}
