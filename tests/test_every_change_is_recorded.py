"""Every address and method that changes something leaves an event; what leaves none is declared, and changes nothing.

The tables are in tests/recording: an address, a command or a way to authenticate that is in none of them fails here.
"""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands

from audit.models import Event
from audit.sealing import log_seal
from tests.recording.authentication import WAYS
from tests.recording.commands import COMMANDS, NO_EVENT, Ran
from tests.recording.recipes import RECIPES, UNCHANGING, Unchanging
from tests.recording.routes import UNSAFE, Route, routes, rows_held
from tests.recording.world import World, world_make

pytestmark = pytest.mark.django_db
ROUTES = routes()
AUTHENTICATION = "authentication_classes"


@pytest.fixture
def world() -> World:
    return world_make()


def mark() -> int:
    return Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def declared(key: str) -> Unchanging | None:
    # The longest is the closest.
    return next((UNCHANGING[name] for name in sorted(UNCHANGING, key=len)[::-1] if matches(name, key)), None)


def matches(name: str, key: str) -> bool:
    return name == key or fnmatchcase(key, name)


def call(world: World, method: str, route: Route) -> Any:
    world.browser.raise_request_exception = False
    if method == "POST" and route.path().startswith("/admin"):
        form = {"action": "delete_selected", "_selected_action": route.first_row(), "post": "yes"}
        return world.browser.post(route.path(), form)
    return world.browser.generic(method, route.path(), "{}", content_type="application/json")


def nothing_planted(world: World) -> None:
    planted = world.planted()
    for event in world.trail():
        body = bytes(event.body).decode()
        assert not [text for text in planted if text in body], body
        assert not [text for text in planted if text in f"{event.stream} {event.actor_ref} {event.kind}"]


@pytest.mark.parametrize("key", sorted(RECIPES))
def test_a_change_leaves_its_events_and_no_name_in_them(world: World, key: str) -> None:
    before = mark()
    response = RECIPES[key].act(world)
    assert response.status_code in (200, 201, 202, 204, 302), response.content
    new = world.trail(before)
    assert RECIPES[key].kinds <= {event.kind for event in new}
    nothing_planted(world)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_an_address_is_in_one_of_the_tables(world: World, route: Route) -> None:
    for method in UNSAFE:
        key = f"{method} {route.name}"
        if key in RECIPES:
            continue
        entry = declared(key)
        if entry and entry.prepare:
            entry.prepare(world)
        rows = rows_held()
        response = entry.act(world) if entry and entry.act else call(world, method, route)
        if entry is None:
            assert response.status_code == 405, f"{key} is neither in RECIPES nor in UNCHANGING"
            continue
        assert response.status_code != 405 or key not in UNCHANGING, f"{key} is not accepted: no entry is needed"
        changed = {table: (rows[table], now) for table, now in rows_held().items() if now != rows[table]}
        assert changed == {}, f"{key} is declared to change nothing: {entry.reason}"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_reading_an_address_changes_nothing(world: World, route: Route) -> None:
    """Of what is there, too: by one who may see it, and as a link that gives a reason and a format would."""
    held = asked_by_root(world) if re.search(r":(turn_id|session_id|uid)>", route.pattern) else {}
    rows = rows_held()
    world.browser.raise_request_exception = False
    statuses = set()
    for method in ("get", "head"):
        for query in ({}, {"reason": "a complaint", "format": "csv"}):
            response = getattr(world.browser, method)(route.path(**held), query)
            if response.streaming:
                # To its end, whatever that does.
                response.getvalue()
            statuses.add(response.status_code)
    assert rows_held() == rows
    assert not held or statuses & {200, 405}, f"{route.pattern} was not found: {statuses}"


def asked_by_root(world: World) -> dict[str, str]:
    """A turn in the log, of the one whose browser asks."""
    question = {"question": "May planted-question be asked?"}
    meta = world.browser.post("/chat", question, content_type="application/json").json()["meta"]
    log_seal()
    event = Event.objects.get(kind="turn.completed", stream=f"session:{meta['session_id']}")
    return {"turn_id": meta["turn_id"], "session_id": meta["session_id"], "uid": str(event.uid)}


@pytest.mark.parametrize("name", [*RECIPES, *UNCHANGING])
def test_the_tables_name_addresses_that_are_there(name: str) -> None:
    assert any(matches(name, f"{method} {route.name}") for route in ROUTES for method in UNSAFE)


# Commands


def test_every_command_is_in_one_of_the_tables() -> None:
    assert sorted(get_commands()) == sorted([*COMMANDS, *NO_EVENT])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_leaves_its_events_and_no_name_in_them(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = mark()
    COMMANDS[name].act(Ran(world, tmp_path, monkeypatch))
    assert COMMANDS[name].kinds <= {event.kind for event in world.trail(before)}
    nothing_planted(world)


# Ways to authenticate


def ways() -> set[str]:
    """Those configured, and those of views that have their own."""
    classes = {cls for route in ROUTES for cls in getattr(getattr(route.callback, "cls", None), AUTHENTICATION, ())}
    named = {f"{cls.__module__}.{cls.__qualname__}" for cls in classes}
    return (
        named | set(settings.REST_FRAMEWORK[f"DEFAULT_{AUTHENTICATION.upper()}"]) | {*settings.AUTHENTICATION_BACKENDS}
    )


def test_every_way_to_authenticate_is_in_the_table() -> None:
    assert ways() == set(WAYS)


@pytest.mark.parametrize("outcome", ["success", "refusal"])
@pytest.mark.parametrize("name", WAYS)
def test_an_attempt_to_authenticate_leaves_its_events_and_no_name_in_them(
    world: World, name: str, outcome: str
) -> None:
    attempt = getattr(WAYS[name], outcome)
    before = mark()
    assert attempt.act(world).status_code == attempt.status
    assert tuple(event.kind for event in world.trail(before)) == attempt.kinds, attempt.why
    nothing_planted(world)
