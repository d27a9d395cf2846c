"""Every way to authenticate: what a success and a refusal leave on record, or why nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from tests.recording.world import FROM, PASSWORD, World


@dataclass(frozen=True)
class Attempt:
    """`act` returns the response; `kinds` are those of all its events, and `why` says why there is none."""

    status: int
    kinds: tuple[str, ...]
    act: Callable[[World], Any]
    why: str = ""


@dataclass(frozen=True)
class Way:
    success: Attempt
    refusal: Attempt


def sign_in(password: str) -> Callable[[World], Any]:
    form = {"username": "planted-person", "password": password}
    return lambda world: Client(**FROM).post("/accounts/login", form)


def without_csrf(world: World) -> Any:
    browser = Client(enforce_csrf_checks=True, **FROM)
    browser.force_login(world.root)
    return browser.post("/chat", {"question": "?"}, content_type="application/json")


def developer(world: World) -> Any:
    return APIClient(**FROM).get("/flags")


def developer_there(world: World) -> Any:
    User.objects.create_user("developer")
    return APIClient(**FROM).get("/flags")


WAYS: dict[str, Way] = {
    "django.contrib.auth.backends.ModelBackend": Way(
        Attempt(302, ("login.succeeded",), sign_in(PASSWORD)),
        Attempt(200, ("login.failed",), sign_in("planted-wrong")),
    ),
    "chat.api.authentication.TokenAuthentication": Way(
        Attempt(200, (), lambda w: w.client().get("/flags"), "a use of a token is told by what it does"),
        Attempt(401, ("token.refused",), lambda w: w.client("planted-token").get("/flags")),
    ),
    "chat.api.authentication.SessionAuthentication": Way(
        Attempt(200, (), lambda w: w.browser.get("/flags"), "the sign-in that the session comes from is on record"),
        Attempt(403, ("login.succeeded",), without_csrf, "the sign-in; a page that is stale or forged does nothing"),
    ),
    "chat.api.authentication.DevelopmentAuthentication": Way(
        Attempt(200, ("user.created", "user.changed"), developer),
        Attempt(200, ("user.created",), developer_there, "it refuses nobody; where it is off it is not asked"),
    ),
}
