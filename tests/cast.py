"""The people of the tests. Each carries a real token and, for pages, a browser that is signed in."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from rest_framework.test import APIClient

from chat.tokens import token_create

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Member:
    user: User
    token: str

    @cached_property
    def client(self) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.token}")
        return client

    @cached_property
    def browser(self) -> Client:
        browser = Client()
        browser.force_login(self.user)
        return browser

    def post_json(self, path: str, body: Any, **headers: str) -> Any:
        """`headers` by their HTTP names with underscores: Idempotency_Key="..."."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, json.dumps(body), content_type="application/json", headers=named)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, query)


def member_make(username: str, *, group: str = "", **fields: Any) -> Member:
    user = User.objects.create_user(username, password=PASSWORD, **fields)
    if group:
        user.groups.add(Group.objects.get(name=group))
    return Member(user, token_create(user=user, lifetime=None, source="tests"))


def permit(member: Member, *codenames: str) -> None:
    """Single permissions, without a group."""
    member.user.user_permissions.add(
        *Permission.objects.filter(codename__in=codenames, content_type__app_label="flags")
    )


@pytest.fixture
def owner(db: None) -> Member:
    """Asks questions, and owns the sessions."""
    return member_make("owner")


@pytest.fixture
def stranger(db: None) -> Member:
    """May do what the owner may, and has no part in what is the owner's."""
    return member_make("stranger")


@pytest.fixture
def reviewer(db: None) -> Member:
    return member_make("reviewer", group="compliance reviewers", is_staff=True)


@pytest.fixture
def flag_manager(db: None) -> Member:
    return member_make("flag_manager", group="flag managers", is_staff=True)


@pytest.fixture
def operator(db: None) -> Member:
    return member_make("operator", group="operators", is_staff=True)


@pytest.fixture
def admin(db: None) -> Member:
    return member_make("admin", is_staff=True, is_superuser=True)


@pytest.fixture
def anonymous() -> APIClient:
    """Nobody. In development the API takes such a caller for the user `developer`."""
    return APIClient()
