"""A steady load of conversations with follow-ups, and what became of each turn.

Every question carries a mark of its own. The stand-in model server (mode `echo`) answers with all the marks that it was
sent, so that an answer shows whether the turns before it were in the context. A request that got no answer is sent
again under its Idempotency-Key, as a careful client does.
"""

import http.client
import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.services.gunicorn import Gunicorn

CLIENTS = 8
TURNS_PER_SESSION = 12
# A minute: a key whose worker was killed is held for 20 s after its last sign of life.
TRIES = 240
LEGAL_AGAIN = {409, 429, 503}


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request. `status` 0: the connection broke. `context`: whether the session's earlier marks came back;
    None without an answer, or for a session's first turn."""

    at: float
    seconds: float
    status: int
    context: bool | None


@dataclass
class Conversation:
    """A session's marks in the order in which they were answered, with the turn number that each answer named."""

    session_id: str
    marks: list[str] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)


class Load:
    """`clients` threads that each hold one conversation after the other, at most `rate` turns a second each."""

    def __init__(self, server: Gunicorn, *, clients: int = CLIENTS, rate: float = 5.0, deep: int = 4) -> None:
        self._server = server
        self._pause = 1 / rate
        # How many earlier turns an answer must show.
        self._deep = deep
        self._stop = threading.Event()
        self.asked: list[Asked] = []
        self.conversations: list[Conversation] = []
        self.gave_up: list[str] = []
        # One after the other: all at once, over and over, would be a row of bursts and no steady load.
        self._threads = [
            threading.Thread(target=self._client, args=(n * self._pause / clients,), name=f"load-{n}")
            for n in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self, delay: float) -> None:
        self._stop.wait(delay)
        while not self._stop.is_set():
            conversation = Conversation(str(uuid.uuid4()))
            self.conversations.append(conversation)
            for _ in range(TURNS_PER_SESSION):
                began = time.monotonic()
                if self._stop.is_set() or not self._turn(conversation):
                    break
                time.sleep(max(0.0, self._pause - (time.monotonic() - began)))

    def _turn(self, conversation: Conversation) -> bool:
        mark = f"mark-{secrets.token_hex(6)}"
        body = {"question": f"What about {mark}?", "session_id": conversation.session_id}
        key = str(uuid.uuid4())
        for _ in range(TRIES):
            began = time.monotonic()
            status, answer = self._post(body, key)
            context = None
            if status == 200:
                shown = json.dumps(answer["blocks"])
                if conversation.marks:
                    context = all(earlier in shown for earlier in conversation.marks[-self._deep :])
                conversation.marks.append(mark)
                conversation.turns.append(answer["meta"]["turn"])
            self.asked.append(Asked(began, time.monotonic() - began, status, context))
            if status == 200:
                return True
            if status and status not in LEGAL_AGAIN:
                self.gave_up.append(f"{status} {answer}")
                return False
            time.sleep(0.25)
        self.gave_up.append(f"{mark}: no answer after {TRIES} tries")
        return False

    def _post(self, body: dict[str, Any], key: str) -> tuple[int, Any]:
        try:
            reply = self._server.post_json("/chat", body, headers={"Idempotency-Key": key}, timeout=60)
            return reply.status, reply.json()
        except (OSError, http.client.HTTPException):
            return 0, None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a load saw within a stretch of time; seconds, shares of 1."""

    requests: int
    errors_5xx: int
    broken: int
    p95: float
    worst: float
    follow_ups: int
    context_share: float


def figures(asked: Iterable[Asked], since: float = 0.0, until: float = float("inf")) -> Figures:
    within = [one for one in list(asked) if since <= one.at < until]
    answered = sorted(one.seconds for one in within if one.status == 200)
    judged = [one.context for one in within if one.context is not None]
    return Figures(
        requests=len(within),
        errors_5xx=sum(one.status >= 500 for one in within),
        broken=sum(one.status == 0 for one in within),
        p95=answered[int(len(answered) * 0.95)] if answered else 0.0,
        worst=answered[-1] if answered else 0.0,
        follow_ups=len(judged),
        context_share=sum(judged) / len(judged) if judged else 1.0,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """Turns that were answered, and of these: not in the record, there more than once, or out of order."""

    answered: int
    lost: int
    doubled: int
    disordered: int


def kept(conversations: Iterable[Conversation], recorded: Callable[[str], list[str]]) -> Kept:
    """`recorded(session_id)` gives the questions on record, oldest first."""
    answered = lost = doubled = disordered = 0
    for conversation in conversations:
        if not conversation.marks:
            continue
        questions = recorded(conversation.session_id)
        found = [question.split()[-1].rstrip("?") for question in questions]
        answered += len(conversation.marks)
        lost += sum(mark not in found for mark in conversation.marks)
        doubled += sum(found.count(mark) > 1 for mark in conversation.marks)
        ours = [mark for mark in found if mark in conversation.marks]
        in_order = ours == conversation.marks and conversation.turns == sorted(conversation.turns)
        disordered += not in_order
    return Kept(answered, lost, doubled, disordered)
