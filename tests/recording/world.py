"""People, rows and texts to change. Whatever is planted must never be read in the trail."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import Event
from chat.models import Stream
from chat.tokens import token_create
from flags.change_services import change_request
from flags.guarded import ChangeRequest, GuardedRollout
from flags.rollout_services import rollout_start
from flags.services import flag_set
from tests.cast import member_make

PASSWORD = "planted-password-4711"
ADDRESS = "203.0.113.77"
FROM = {"REMOTE_ADDR": ADDRESS, "HTTP_USER_AGENT": "planted-agent"}
COHORT = "FEATURE_SUGGESTED_ACTIONS"


@dataclass
class World:
    root: User
    person: User
    other: User
    group: Group
    tokens: list[str]
    rollout: GuardedRollout
    request: ChangeRequest
    browser: Client = field(init=False)

    def __post_init__(self) -> None:
        self.browser = Client(**FROM)
        self.browser.force_login(self.root)

    def client(self, token: str = "") -> APIClient:
        """A caller with a token: the person's, unless another is given."""
        client = APIClient(**FROM)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token or self.tokens[0]}")
        return client

    def ask(self, path: str = "/chat") -> Any:
        return self.client().post(path, {"question": "May planted-question be asked?"}, format="json")

    def stream(self, turn_id: str) -> Stream:
        ref = self.person.subject_alias.subject_ref
        return Stream.objects.create(
            turn_id=turn_id, session_id=turn_id, subject_ref=ref, endpoint="chat", pipeline="unified", sealed=b""
        )

    def planted(self) -> set[str]:
        """What no event may hold."""
        hashes = set(User.objects.values_list("password", flat=True)) - {""}
        return {"planted", ADDRESS, *self.tokens, *(token[:8] for token in self.tokens), *hashes}

    def trail(self, after: int = 0) -> list[Event]:
        return list(Event.objects.filter(pk__gt=after).order_by("pk"))


def world_make() -> World:
    people = []
    for name in ("planted-root", "planted-person", "planted-other"):
        person = member_make(name, email=f"{name}@mail.example", first_name="planted-first", last_name="planted-last")
        person.user.set_password(PASSWORD)
        person.user.save()
        people.append(person)
    root = people[0].user
    root.is_staff = root.is_superuser = True
    root.save()
    group = Group.objects.create(name="planted-group")
    people[1].user.groups.add(group)
    flag_set(key=COHORT, value=False, actor_ref="", reason="", source="tests")
    rollout = rollout_start(key=COHORT, actor_ref="", reason="a trial", source="tests")
    request = _request_open()
    tokens = [people[1].token, *(token_create(user=people[2].user, lifetime=None, source="tests") for _ in range(2))]
    return World(root, people[1].user, people[2].user, group, tokens, rollout, request)


def _request_open() -> ChangeRequest:
    later = timezone.now() + timedelta(days=1)
    return change_request(
        key="CONV_MAX_TURNS", change={"value": 7}, actor_ref="", reason="a trial", scheduled_for=later
    )
