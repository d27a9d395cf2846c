"""Every way to write a flag advances the epoch and leaves an audit event, in the transaction of the change itself."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction

from audit.models import Event
from audit.services import subject_ref_of
from flags.changes import acting
from flags.models import Flag, FlagsEpoch, Setting, Switch

pytestmark = pytest.mark.django_db

PIPELINE, DUAL, TURNS = "USE_UNIFIED_PIPELINE", "CONV_DUAL_WRITE", "CONV_MAX_TURNS"


@dataclass(frozen=True)
class World:
    """Rows for the paths to write; `flag` lists `member` and `group`, and not `other` and `others`."""

    flag: Flag
    member: User
    other: User
    group: Group
    others: Group


@pytest.fixture
def world() -> World:
    people = [User.objects.create_user(name) for name in ("member", "other")]
    groups = [Group.objects.create(name=name) for name in ("group", "others")]
    flag = Flag.objects.get(name=PIPELINE)
    flag.users.add(people[0])
    flag.groups.add(groups[0])
    for person in people:
        subject_ref_of(person)
    return World(flag, *people, *groups)


def epoch() -> int:
    return FlagsEpoch.objects.get(pk=1).epoch


def events() -> list[dict[str, Any]]:
    rows = Event.objects.filter(kind="flag.changed").order_by("stream_seq")
    return [json.loads(bytes(row.body)) for row in rows]


def facts_since(count: int) -> list[tuple[str, Any, Any]]:
    return [(event["facts"]["key"], event["facts"]["old"], event["facts"]["new"]) for event in events()[count:]]


def save(world: World) -> None:
    world.flag.everyone = False
    world.flag.save()


def save_switch(world: World) -> None:
    switch = Switch.objects.get(name=DUAL)
    switch.active = True
    switch.save()


def save_setting(world: World) -> None:
    setting = Setting.objects.get(key=TURNS)
    setting.value_json = 3
    setting.save(update_fields=["value_json"])


def bulk_update(world: World) -> None:
    rows = [Setting(key=TURNS, value_json=3), Setting(key="LLM_TIMEOUT_MS", value_json=900)]
    Setting.objects.bulk_update(rows, ["value_json"])


def rename(world: World) -> None:
    Flag.objects.filter(name=PIPELINE).update(name="RENAMED")


PATHS: dict[str, tuple[Callable[[World], Any], int]] = {
    "save a flag": (save, 1),
    "save a switch": (save_switch, 1),
    "save a setting": (save_setting, 1),
    "create a flag": (lambda w: Flag.objects.create(name="NEW"), 1),
    "create a switch": (lambda w: Switch.objects.create(name="NEW"), 1),
    "create a setting": (lambda w: Setting.objects.create(key="NEW", value_json=1), 1),
    "get_or_create": (lambda w: Switch.objects.get_or_create(name="NEW"), 1),
    "update_or_create, new": (lambda w: Setting.objects.update_or_create(key="NEW", defaults={"value_json": 1}), 1),
    "update_or_create, there": (lambda w: Setting.objects.update_or_create(key=TURNS, defaults={"value_json": 3}), 1),
    "delete a flag": (lambda w: w.flag.delete(), 1),
    "delete a switch": (lambda w: Switch.objects.get(name=DUAL).delete(), 1),
    "delete a setting": (lambda w: Setting.objects.get(key=TURNS).delete(), 1),
    "QuerySet.update of a flag": (lambda w: Flag.objects.filter(name=PIPELINE).update(rollout_bp=100), 1),
    "QuerySet.update of flags": (lambda w: Flag.objects.update(everyone=None), 3),
    "QuerySet.update of a switch": (lambda w: Switch.objects.update(active=True), 1),
    "QuerySet.update of settings": (lambda w: Setting.objects.filter(key__startswith="CONV").update(value_json=99), 3),
    "QuerySet.update of the name": (rename, 2),
    "QuerySet.delete of flags": (lambda w: Flag.objects.all().delete(), 3),
    "QuerySet.delete of a setting": (lambda w: Setting.objects.filter(key=TURNS).delete(), 1),
    "bulk_create": (lambda w: Switch.objects.bulk_create([Switch(name="NEW"), Switch(name="NEWER")]), 2),
    "bulk_update": (bulk_update, 2),
    "users.add": (lambda w: w.flag.users.add(w.other), 1),
    "users.remove": (lambda w: w.flag.users.remove(w.member), 1),
    "users.clear": (lambda w: w.flag.users.clear(), 1),
    "users.set": (lambda w: w.flag.users.set([w.other]), 2),
    "users.set, clear": (lambda w: w.flag.users.set([w.other], clear=True), 2),
    "groups.add": (lambda w: w.flag.groups.add(w.others), 1),
    "groups.remove": (lambda w: w.flag.groups.remove(w.group), 1),
    "groups.clear": (lambda w: w.flag.groups.clear(), 1),
    "groups.set": (lambda w: w.flag.groups.set([w.others]), 2),
    "flag_set of a user.add": (lambda w: w.other.flag_set.add(w.flag), 1),
    "flag_set of a user.remove": (lambda w: w.member.flag_set.remove(w.flag), 1),
    "flag_set of a user.clear": (lambda w: w.member.flag_set.clear(), 1),
    "flag_set of a user.set": (lambda w: w.member.flag_set.set([]), 1),
    "flag_set of a group.add": (lambda w: w.others.flag_set.add(w.flag), 1),
    "flag_set of a group.remove": (lambda w: w.group.flag_set.remove(w.flag), 1),
    "flag_set of a group.clear": (lambda w: w.group.flag_set.clear(), 1),
    "flag_set of a group.set": (lambda w: w.others.flag_set.set([w.flag]), 1),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_write_advances_the_epoch_and_leaves_an_event(world: World, path: str) -> None:
    write, expected = PATHS[path]
    before, count = epoch(), len(events())
    with acting(actor_ref="f" * 32, reason="because", source="tests"):
        write(world)
    written = events()[count:]
    assert len(written) == expected
    assert epoch() == before + expected
    assert {(e["actor"], e["facts"]["reason"], e["facts"]["source"]) for e in written} == {
        ("f" * 32, "because", "tests")
    }
    assert [event["facts"]["epoch"] for event in written] == list(range(before + 1, before + expected + 1))


@pytest.mark.parametrize("path", PATHS)
def test_a_write_that_is_rolled_back_takes_epoch_and_event_with_it(world: World, path: str) -> None:
    write, _ = PATHS[path]
    before = (epoch(), events())
    with transaction.atomic():
        write(world)
        transaction.set_rollback(True)
    assert (epoch(), events()) == before


@pytest.mark.parametrize("path", PATHS)
def test_a_write_whose_event_cannot_be_recorded_does_not_happen(world: World, path: str) -> None:
    write, _ = PATHS[path]
    before = state()
    with pytest.raises(ValueError, match="limit"), transaction.atomic(), unrecordable():
        write(world)
    assert state() == before


def unrecordable() -> Any:
    """A reason that is too long for an event's body: appending the event fails as it would for any other cause."""
    return acting(actor_ref="", reason="x" * 60_001, source="tests")


def state() -> list[Any]:
    cohorts = [
        (f.name, f.everyone, f.rollout_bp, f.users.count(), f.groups.count()) for f in Flag.objects.order_by("id")
    ]
    switches = list(Switch.objects.order_by("id").values_list("name", "active"))
    return [cohorts, switches, list(Setting.objects.order_by("key").values_list("key", "value_json")), epoch()]


# What the event says


def test_an_update_tells_old_and_new_of_each_row(world: World) -> None:
    count = len(events())
    Switch.objects.filter(name=DUAL).update(active=True)
    assert facts_since(count) == [(DUAL, {"active": False}, {"active": True})]


def test_a_creation_has_no_old_and_a_deletion_no_new(world: World) -> None:
    count = len(events())
    Switch.objects.create(name="NEW", active=True)
    Switch.objects.filter(name="NEW").delete()
    assert facts_since(count) == [("NEW", None, {"active": True}), ("NEW", {"active": True}, None)]


def test_a_listed_user_is_told_by_pseudonym(world: World) -> None:
    count = len(events())
    world.flag.users.add(world.other)
    change = {"count": 1, "members": [subject_ref_of(world.other)]}
    assert facts_since(count) == [(PIPELINE, None, {"users_added": change})]
    assert "other" not in json.dumps(events()[-1]["facts"]["new"])


def test_a_group_taken_off_the_list_is_told(world: World) -> None:
    count = len(events())
    world.group.flag_set.remove(world.flag)
    change = {"count": 1, "members": [f"group:{world.group.pk}"]}
    assert facts_since(count) == [(PIPELINE, {"groups_removed": change}, None)]


def test_a_mass_change_is_told_by_its_count(world: World) -> None:
    people = User.objects.bulk_create(User(username=f"person{number}") for number in range(250))
    world.flag.users.add(*people)
    change = events()[-1]["facts"]["new"]["users_added"]
    assert change["count"] == 250
    assert len(change["members"]) == 200


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.flag.save(),
        lambda w: w.flag.users.add(w.member),
        lambda w: w.flag.users.remove(w.other),
        lambda w: w.other.flag_set.clear(),
        lambda w: Switch.objects.update(active=False),
        lambda w: Setting.objects.get_or_create(key=TURNS),
        lambda w: Flag.objects.none().delete(),
    ],
)
def test_a_write_that_changes_nothing_leaves_nothing(world: World, write: Callable[[World], Any]) -> None:
    before = (epoch(), events())
    write(world)
    assert (epoch(), events()) == before


def test_what_save_was_not_told_to_write_is_not_recorded_as_written(world: World) -> None:
    count = len(events())
    world.flag.everyone = False
    world.flag.note = "a note"
    world.flag.save(update_fields=["note"])
    assert Flag.objects.get(name=PIPELINE).everyone is True
    assert facts_since(count) == []


def test_a_row_that_bulk_create_passed_over_is_not_recorded_as_written(world: World) -> None:
    count = len(events())
    Switch.objects.bulk_create([Switch(name=DUAL, active=True)], ignore_conflicts=True)
    assert Switch.objects.get(name=DUAL).active is False
    assert facts_since(count) == []


def test_a_row_that_bulk_create_wrote_over_is_recorded_with_what_it_was(world: World) -> None:
    count = len(events())
    Switch.objects.bulk_create(
        [Switch(name=DUAL, active=True)], update_conflicts=True, unique_fields=["name"], update_fields=["active"]
    )
    assert facts_since(count) == [(DUAL, {"active": False}, {"active": True})]


def test_a_renamed_flag_is_told_under_both_names(world: World) -> None:
    count = len(events())
    rename(world)
    told = json.dumps(facts_since(count))
    assert PIPELINE in told
    assert "RENAMED" in told


def test_changes_outside_a_block_are_the_code_s_own(world: World) -> None:
    save_switch(world)
    assert events()[-1]["actor"] == ""
    assert events()[-1]["facts"]["source"] == "code"


def test_a_block_ends_where_it_ends(world: World) -> None:
    with pytest.raises(RuntimeError), acting(actor_ref="f" * 32, reason="because", source="tests"):
        raise RuntimeError
    save_switch(world)
    assert events()[-1]["actor"] == ""


@pytest.mark.parametrize("model", [Flag, Switch, Setting])
def test_all_rows_are_not_deleted_by_a_slip(model: Any) -> None:
    # Django keeps delete() off managers: a forgotten filter() would empty the table.
    assert not hasattr(model.objects, "delete")
    assert model.objects.all().delete.alters_data
