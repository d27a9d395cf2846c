"""Users, groups, permissions and tokens: what their changes leave on record, and that none goes without it."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.core import serializers
from django.db import IntegrityError, NotSupportedError, connection
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from audit.models import Event, Stream, SubjectAlias
from audit.services import subject_ref_of
from chat.tokens import token_create
from tests.cast import PASSWORD, Member

pytestmark = pytest.mark.django_db
ACCOUNTS = "accounts"
PERMISSION = "audit.view_event"


def events(stream: str = ACCOUNTS) -> list[dict[str, Any]]:
    return [json.loads(bytes(row.body)) for row in Event.objects.filter(stream=stream).order_by("stream_seq")]


def told(stream: str = ACCOUNTS) -> dict[str, Any]:
    """Kind and facts of the last event."""
    event = events(stream)[-1]
    return {"kind": event["kind"], **event["facts"]}


def block(stream: str) -> None:
    """The next event of the stream cannot be written: its number is taken."""
    last = Stream.objects.filter(name=stream).values_list("last_seq", flat=True).first() or 0
    Event.objects.create(at=timezone.now(), kind="taken", stream=stream, stream_seq=last + 1, body=b"{}", leaf=b"")


@pytest.fixture
def person() -> User:
    return User.objects.create_user("person", "person@mail.example", PASSWORD)


@pytest.fixture
def group() -> Group:
    return Group.objects.create(name="inspectors")


@pytest.fixture
def permission() -> Permission:
    return Permission.objects.get(codename="view_event")


# Users


def test_a_new_user_is_told_by_pseudonym_with_what_they_may_do(person: User) -> None:
    assert told() == {
        "kind": "user.created", "for_ref": subject_ref_of(person), "password_usable": True,
        "is_active": True, "is_staff": False, "is_superuser": False, "source": "shell",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fields", "flags"),
    [
        ({"username": "renamed"}, ["username"], {}),
        ({"email": "other@mail.example", "first_name": "Ada"}, ["email", "first_name"], {}),
        ({"is_staff": True}, ["is_staff"], {"is_staff": {"old": False, "new": True}}),
        (
            {"is_superuser": True, "is_active": False},
            ["is_active", "is_superuser"],
            {"is_superuser": {"old": False, "new": True}, "is_active": {"old": True, "new": False}},
        ),
    ],
    ids=["name", "e-mail", "staff", "two"],
)
def test_a_change_names_the_fields_and_the_values_only_of_booleans(
    person: User, change: dict[str, Any], fields: list[str], flags: dict[str, Any]
) -> None:
    for name, value in change.items():
        setattr(person, name, value)
    person.save()
    expected = {"kind": "user.changed", "for_ref": subject_ref_of(person), "fields": fields, "flags": flags}
    assert told() == {**expected, "source": "shell"}


def test_a_new_password_is_told_without_it(person: User) -> None:
    person.set_password("another password")
    person.save()
    assert (told()["fields"], told()["flags"]) == (["password"], {})


def test_a_password_taken_away_is_told(person: User) -> None:
    person.set_unusable_password()
    person.save(update_fields=["password"])
    assert told()["flags"] == {"password_usable": {"old": True, "new": False}}


def test_saving_what_is_there_already_is_no_event(person: User) -> None:
    before = events()
    person.save()
    person.last_login = timezone.now()
    person.save(update_fields=["last_login"])
    assert events() == before


def test_only_the_fields_that_are_saved_count(person: User) -> None:
    person.is_staff, person.first_name = True, "Ada"
    person.save(update_fields=["first_name"])
    assert told()["fields"] == ["first_name"]


def test_a_bulk_update_is_told_for_each_who_changed(person: User, group: Group) -> None:
    other = User.objects.create_user("other", is_staff=True)
    group.user_set.set([person, other])
    before = len(events())
    assert group.user_set.filter(is_staff=False).update(is_staff=True) == 1
    assert User.objects.update(is_staff=True, last_login=timezone.now()) == 2
    (event,) = events()[before:]
    expected = {"fields": ["is_staff"], "flags": {"is_staff": {"old": False, "new": True}}, "source": "shell"}
    assert (event["kind"], event["facts"]) == ("user.changed", {"for_ref": subject_ref_of(person), **expected})
    person.email = other.email = "new@mail.example"
    User.objects.bulk_update([person, other], ["email"])
    assert [event["facts"]["fields"] for event in events()[-2:]] == [["email"], ["email"]]


def test_a_migration_s_model_of_a_user_records_nothing(person: User) -> None:
    historical = MigrationExecutor(connection).loader.project_state().apps.get_model("auth", "User")
    before = events()
    historical.objects.update(is_staff=True)
    historical.objects.bulk_create([historical(username="one")])
    assert events() == before
    assert User.objects.filter(is_staff=True).count() == 1


def test_a_sign_in_s_own_update_is_no_event(person: User) -> None:
    before = events()
    User.objects.update(last_login=timezone.now())
    assert events() == before


def test_users_made_in_bulk_are_told(db: None) -> None:
    User.objects.bulk_create([User(username="one"), User(username="two", is_superuser=True)])
    assert [event["facts"]["is_superuser"] for event in events()[-2:]] == [False, True]
    assert events()[-1]["facts"]["for_ref"] == subject_ref_of(User.objects.get(username="two"))
    with pytest.raises(NotSupportedError):
        User.objects.bulk_create([User(username="one")], ignore_conflicts=True)


def test_a_deleted_user_is_told_by_the_pseudonym_they_had(person: User) -> None:
    ref = subject_ref_of(person)
    token_create(user=person, lifetime=None, source="tests")
    User.objects.filter(pk=person.pk).delete()
    assert told() == {"kind": "user.deleted", "for_ref": ref, "source": "shell"}
    revoked = told("auth")
    assert (revoked["kind"], revoked["for_ref"]) == ("token.revoked", ref)
    assert not SubjectAlias.objects.filter(subject_ref=ref).exists()


def test_a_user_without_a_pseudonym_can_be_deleted(person: User) -> None:
    SubjectAlias.objects.all().delete()
    person.delete()
    assert told()["for_ref"] == ""


def test_a_fixture_is_loaded_as_it_is(person: User, permission: Permission) -> None:
    person.user_permissions.add(permission)
    written = serializers.serialize("json", [person])
    person.user_permissions.clear()
    before = events()
    for row in serializers.deserialize("json", written):
        row.save()
    assert list(person.user_permissions.all()) == [permission]
    assert events() == before


# Groups and permissions

RELATIONS: dict[str, tuple[Callable[[User, Group, Permission], Any], str, str]] = {
    "into a group": (lambda u, g, p: u.groups.add(g), "user.groups_changed", "added"),
    "into a group, from its side": (lambda u, g, p: g.user_set.add(u), "user.groups_changed", "added"),
    "permission": (lambda u, g, p: u.user_permissions.add(p), "user.permissions_changed", "added"),
    "permission, from its side": (lambda u, g, p: p.user_set.add(u), "user.permissions_changed", "added"),
    "group's permission": (lambda u, g, p: g.permissions.add(p), "group.permissions_changed", "added"),
    "group's permission, from its side": (lambda u, g, p: p.group_set.add(g), "group.permissions_changed", "added"),
}
BACK: dict[str, tuple[Callable[[User, Group, Permission], Any], str, str]] = {
    "out of a group": (lambda u, g, p: u.groups.remove(g), "user.groups_changed", "removed"),
    "out of all groups": (lambda u, g, p: u.groups.clear(), "user.groups_changed", "removed"),
    "out of a group, from its side": (lambda u, g, p: g.user_set.set([]), "user.groups_changed", "removed"),
    "permission": (lambda u, g, p: u.user_permissions.set([]), "user.permissions_changed", "removed"),
    "permission, from its side": (lambda u, g, p: p.user_set.clear(), "user.permissions_changed", "removed"),
    "group's permission": (lambda u, g, p: g.permissions.clear(), "group.permissions_changed", "removed"),
    "group's permission, from its side": (
        lambda u, g, p: p.group_set.remove(g),
        "group.permissions_changed",
        "removed",
    ),
}


def expected_of(kind: str, person: User, group: Group) -> dict[str, Any]:
    permissions = {"permissions": {"count": 1, "listed": [PERMISSION]}}
    groups = {"groups": {"count": 1, "listed": [f"group:{group.pk}"]}}
    return {
        "user.groups_changed": {"for_ref": subject_ref_of(person), **groups},
        "user.permissions_changed": {"for_ref": subject_ref_of(person), **permissions},
        "group.permissions_changed": {"group": f"group:{group.pk}", **permissions},
    }[kind]


@pytest.mark.parametrize(("act", "kind", "change"), RELATIONS.values(), ids=RELATIONS)
def test_what_is_given_is_on_record(
    person: User, group: Group, permission: Permission, act: Any, kind: str, change: str
) -> None:
    act(person, group, permission)
    assert told() == {"kind": kind, "change": change, "source": "shell", **expected_of(kind, person, group)}
    before = events()
    act(person, group, permission)
    assert events() == before


@pytest.mark.parametrize(("act", "kind", "change"), BACK.values(), ids=BACK)
def test_what_is_taken_is_on_record(
    person: User, group: Group, permission: Permission, act: Any, kind: str, change: str
) -> None:
    person.groups.add(group)
    person.user_permissions.add(permission)
    group.permissions.add(permission)
    act(person, group, permission)
    assert told() == {"kind": kind, "change": change, "source": "shell", **expected_of(kind, person, group)}
    before = events()
    act(person, group, permission)
    assert events() == before


def test_a_group_s_life_is_on_record_without_its_name(person: User, group: Group, permission: Permission) -> None:
    assert told() == {"kind": "group.created", "group": f"group:{group.pk}", "source": "shell"}
    group.name = "surveyors"
    group.save()
    assert (told()["kind"], told()["fields"]) == ("group.changed", ["name"])
    group.permissions.add(permission)
    group.user_set.add(person)
    ref = f"group:{group.pk}"
    group.delete()
    permissions = {"count": 1, "listed": [PERMISSION]}
    expected = {"kind": "group.deleted", "group": ref, "permissions": permissions, "members": 1, "source": "shell"}
    assert told() == expected
    assert not any("inspectors" in json.dumps(event) or "surveyors" in json.dumps(event) for event in events())


def test_many_members_are_told_by_their_number_and_the_first_of_them(group: Group) -> None:
    permissions = list(Permission.objects.all())
    many = [Permission(codename=f"many-{n}", name="x", content_type=permissions[0].content_type) for n in range(250)]
    Permission.objects.bulk_create(many)
    group.permissions.set(Permission.objects.all())
    listed = told()["permissions"]
    assert (listed["count"], len(listed["listed"])) == (len(permissions) + 250, 200)


# The change and its event are one


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("make", ["save", "create", "update", "delete", "add", "token", "group"])
def test_without_its_event_no_change_is_made_from_a_shell(make: str) -> None:
    person = User.objects.create_user("person", password=PASSWORD)
    group = Group.objects.create(name="inspectors")
    block(ACCOUNTS)
    block("auth")
    person.is_superuser = True
    group.name = "surveyors"
    changes: dict[str, Callable[[], Any]] = {
        "save": person.save,
        "create": lambda: User.objects.create_superuser("other", password=PASSWORD),
        "update": lambda: User.objects.update(is_superuser=True),
        "delete": lambda: User.objects.get(username="person").delete(),
        "add": lambda: person.groups.add(group),
        "token": lambda: AuthToken.objects.create(person),
        "group": group.save,
    }
    with pytest.raises(IntegrityError):
        changes[make]()
    assert list(User.objects.values_list("username", "is_superuser")) == [("person", False)]
    assert not person.groups.exists()
    assert not AuthToken.objects.exists()
    assert Group.objects.filter(name="inspectors").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("stream", [ACCOUNTS, "admin"])
def test_without_its_event_a_password_is_not_changed_in_the_admin(admin: Member, stream: str) -> None:
    person = User.objects.create_user("person", password=PASSWORD)
    page = reverse("admin:auth_user_password_change", args=[person.pk])
    admin.browser.raise_request_exception = False
    block(stream)
    new = "another password 4711"
    form = {"usable_password": "true", "password1": new, "password2": new}
    assert admin.browser.post(page, form).status_code == 500
    person.refresh_from_db()
    assert person.check_password(PASSWORD)
    assert not LogEntry.objects.exists()


# Who


def test_in_the_admin_the_actor_is_who_is_signed_in(admin: Member, person: User) -> None:
    page = reverse("admin:auth_user_delete", args=[person.pk])
    assert admin.browser.post(page, {"post": "yes"}).status_code == 302
    event = events()[-1]
    assert (event["actor"], event["facts"]["source"]) == (subject_ref_of(admin.user), "admin")


def test_after_a_request_there_is_no_actor(admin: Member, person: User) -> None:
    admin.browser.get("/admin/")
    person.delete()
    assert (events()[-1]["actor"], events()[-1]["facts"]["source"]) == ("", "shell")


def test_a_reader_who_changes_nothing_costs_no_query_more(owner: Member, django_assert_num_queries: Any) -> None:
    owner.get("/flags")
    # 1 token and user, 2 pseudonym.
    with django_assert_num_queries(2):
        owner.get("/flags")


# The admin's own log


def test_an_edit_in_the_admin_names_model_fields_and_a_pseudonym(admin: Member, person: User) -> None:
    new = "another password 4711"
    page = reverse("admin:auth_user_password_change", args=[person.pk])
    admin.browser.post(page, {"usable_password": "true", "password1": new, "password2": new})
    event = events("admin")[-1]
    assert event["actor"] == subject_ref_of(admin.user)
    edited = {"model": "auth.user", "object": subject_ref_of(person), "action": "change", "fields": ["password"]}
    assert event["facts"] == edited


def test_each_row_of_a_bulk_deletion_is_told(admin: Member, person: User, owner: Member) -> None:
    refs = {subject_ref_of(person), subject_ref_of(owner.user)}
    form = {"action": "delete_selected", "_selected_action": [person.pk, owner.user.pk], "post": "yes"}
    admin.browser.post("/admin/auth/user/", form)
    edited = [event["facts"] for event in events("admin")]
    assert [(facts["model"], facts["action"]) for facts in edited] == [("auth.user", "delete")] * 2
    assert {facts["object"] for facts in edited} == refs


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("", []),
        ("Changed planted.", []),
        ('"planted"', []),
        ('[{"changed": {"fields": ["Note"]}}, {"added": {"name": "row", "object": "planted"}}]', ["Note", "row"]),
    ],
)
def test_a_log_entry_gives_away_no_text_of_a_row(admin: Member, group: Group, message: str, fields: list[str]) -> None:
    LogEntry.objects.log_actions(admin.user.pk, Group.objects.filter(pk=group.pk), 2, message)
    assert told("admin")["fields"] == fields
    assert "planted" not in json.dumps(events("admin"))


# Tokens


def test_a_token_is_called_the_same_from_its_making_to_its_end(person: User) -> None:
    token_create(user=person, lifetime=None, source="tests")
    created = told("auth")
    row = AuthToken.objects.get(user=person)
    row.expiry = timezone.now() + timedelta(days=1)
    row.save()
    changed, digest = told("auth"), row.digest
    row.delete()
    revoked = told("auth")
    assert (created["kind"], created["source"]) == ("token.created", "tests")
    assert (changed["kind"], changed["fields"]) == ("token.changed", ["expiry"])
    assert changed["expires"] == row.expiry.isoformat()
    assert (revoked["kind"], revoked["source"]) == ("token.revoked", "shell")
    assert created["token"] == changed["token"] == revoked["token"]
    assert created["token"] not in digest


def test_a_token_that_never_expires_is_told_so(person: User) -> None:
    AuthToken.objects.create(person, expiry=None)
    assert told("auth")["expires"] is None
