"""Imported only with a MONGO_URL, after the fork: PyMongo's locks and threads must be those of the worker that uses
them (gevent replaces both)."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pymongo
from django.conf import settings
from django.utils import timezone
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from chat.breakers import Breaker, BreakerOpen
from chat.stores.base import ConversationStore, Message, StoreAway
from chat.stores.sealing import message_seal, messages_open
from chat.stores.waiting import waiting

T = TypeVar("T")
Document = dict[str, Any]
FAILURES = (PyMongoError, OSError)
DATABASE, COLLECTION = "onesource", "conversation_messages"
DUPLICATE_KEY = 11000
UNAUTHORIZED, AUTHENTICATION_FAILED = 13, 18
INDEXES_RETRY_SECONDS = 60
SWEEP_SECONDS = 3600
# Nobody waits for it but the thread that does it, which other work waits for.
CARE_SECONDS = 2.0
BREAKER = Breaker("mongo", threshold=1, recovery_seconds=2, failure=lambda error: _is_away(error))


def _is_away(error: BaseException) -> bool:
    """An OperationFailure is an answer: of a server that is there, about this one operation."""
    if isinstance(error, OperationFailure):
        return error.timeout or error.code in (UNAUTHORIZED, AUTHENTICATION_FAILED)
    return isinstance(error, FAILURES)


class Connected:
    """The process's client and when it was made. Everything but the timeouts and retries can be set in the URL."""

    def __init__(self) -> None:
        timeout_ms = settings.MONGO_TIMEOUT_MS
        self._connecting_until = time.monotonic() + timeout_ms / 1000
        self.client: pymongo.MongoClient[Document] = pymongo.MongoClient(
            settings.MONGO_URL,
            # The whole of an operation; the others bound what happens apart from one.
            timeoutMS=timeout_ms,
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            retryReads=False,
            retryWrites=False,
            # Half the threads, and servers that do not stream their state are watched as well.
            serverMonitoringMode="poll",
            # How soon a server that is back, or a new primary, is seen.
            heartbeatFrequencyMS=1000,
            appname="onesource",
        )

    def messages(self) -> Collection[Document]:
        """Raises ServerSelectionTimeoutError while there is no server to write to.

        PyMongo would look for one in steps of half a second, whatever the timeout. Its monitors look all the time, so
        that nothing is to be waited for but, once, the first connection.
        """
        while not self._usable():
            if time.monotonic() > self._connecting_until:
                raise ServerSelectionTimeoutError("no server to write to is known now")
            time.sleep(0.002)
        return self.client.get_default_database(DATABASE)[COLLECTION]

    def _usable(self) -> bool:
        known = self.client.topology_description
        return known.has_known_servers and known.has_writable_server()


_connected: Connected | None = None
_making = threading.Lock()


def connected() -> Connected:
    """Made at its first use, one a process."""
    global _connected
    with _making:
        if _connected is None:
            _connected = Connected()
        return _connected


def client_forget() -> None:
    """Closes the client; the next operation makes another."""
    global _connected
    with _making:
        if _connected is not None:
            _connected.client.close()
        _connected = None


def _after_fork() -> None:
    """A client is not to be used across a fork; nor closed in the child, as the sockets are the parent's too."""
    global _connected, _making, _inherited
    _inherited, _connected, _making = _connected, None, threading.Lock()


# Kept from the garbage collector, which would close it.
_inherited: Connected | None = None
os.register_at_fork(after_in_child=_after_fork)


class MongoStore(ConversationStore):
    """One document a message: {_id: "session:seq", session_id, seq, sealed, expires_at}.

    Only plain operations, no transaction and no array operators, so that it runs on all that speaks MongoDB's protocol.
    The _id says session and seq, so that a message is there once even before the indexes are.
    """

    name = "mongo"

    def __init__(self) -> None:
        self._indexes_due = 0.0
        # Where the server deletes no expired documents by itself.
        self._sweep_due = float("inf")

    def load(self, session_id: uuid.UUID, limit: int, *, upto: int | None = None) -> list[Message]:
        if limit <= 0:
            return []
        now = timezone.now()
        wanted: Document = {"session_id": str(session_id), "expires_at": {"$gt": now}}
        if upto is not None:
            wanted["seq"] = {"$lte": upto}

        def read(messages: Collection[Document]) -> list[Document]:
            return list(messages.find(wanted, {"seq": 1, "sealed": 1}).sort("seq", -1).limit(limit))

        with self.measured("load"):
            newest_first = self._run(read)
        # What somebody else has written there may have any shape.
        found = [(row["seq"], row["sealed"]) for row in reversed(newest_first) if _is_row(row)]
        return messages_open(found, session_id, now.timestamp())

    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        if not messages or keep <= 0:
            self.delete(session_id)
            return
        documents = _documents(session_id, messages, ttl_seconds)

        def write(collection: Collection[Document]) -> None:
            _insert(collection, documents)
            _trim(collection, session_id, keep)

        with self.measured("append"):
            self._run(write)

    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, upto: int, ttl_seconds: int) -> None:
        documents = _documents(session_id, messages, ttl_seconds)

        def write(collection: Collection[Document]) -> None:
            # Not in one transaction: who reads in between sees a gap, and rebuilds as well.
            collection.delete_many({"session_id": str(session_id), "seq": {"$lte": upto}})
            _insert(collection, documents)

        with self.measured("replace"):
            self._run(write)

    def delete(self, session_id: uuid.UUID) -> None:
        with self.measured("delete"):
            self._run(lambda messages: messages.delete_many({"session_id": str(session_id)}))

    def check(self) -> None:
        self._run(lambda messages: messages.database.command("ping"))

    def care(self) -> None:
        """The indexes, once a process, and the expired, once an hour where the server leaves them."""
        now = time.monotonic()
        if now >= self._indexes_due:
            # Set first: a failure is not tried again at once.
            self._indexes_due = now + INDEXES_RETRY_SECONDS
            self._run(self._indexes_make, CARE_SECONDS)
        if now >= self._sweep_due:
            self._sweep_due = now + SWEEP_SECONDS
            expired = {"expires_at": {"$lte": timezone.now()}}
            self._run(lambda messages: messages.delete_many(expired), CARE_SECONDS)

    def _indexes_make(self, messages: Collection[Document]) -> None:
        # Somebody else may have made them, for an account that may not.
        with suppress(OperationFailure):
            messages.create_index([("session_id", 1), ("seq", 1)], unique=True)
            self._indexes_due = float("inf")
        try:
            messages.create_index("expires_at", expireAfterSeconds=0)
        except OperationFailure:
            self._sweep_due = min(self._sweep_due, time.monotonic())
            with suppress(OperationFailure):
                messages.create_index("expires_at", name="expires_at_plain")

    def _run(self, act: Callable[[Collection[Document]], T], seconds: float | None = None) -> T:
        try:
            most = seconds or settings.MONGO_TIMEOUT_MS / 1000
            with waiting(self.name, most) as limit, BREAKER.guarding(), pymongo.timeout(limit):
                return act(connected().messages())
        except (BreakerOpen, *FAILURES) as error:
            raise StoreAway(type(error).__name__) from error


def _is_row(row: Document) -> bool:
    return isinstance(row.get("seq"), int) and isinstance(row.get("sealed"), str)


def _documents(session_id: uuid.UUID, messages: Sequence[Message], ttl_seconds: int) -> list[Document]:
    default = (timezone.now() + timedelta(seconds=ttl_seconds)).timestamp()
    return [_document(session_id, message, message.expires_at or default) for message in messages]


def _document(session_id: uuid.UUID, message: Message, expires_at: float) -> Document:
    return {
        "_id": f"{session_id}:{message.seq}",
        "session_id": str(session_id),
        "seq": message.seq,
        "sealed": message_seal(message, session_id, expires_at),
        "expires_at": datetime.fromtimestamp(expires_at, UTC),
    }


def _insert(messages: Collection[Document], documents: list[Document]) -> None:
    """The last writer of a seq wins, as in a database that was restored to an earlier turn."""
    if not documents:
        return
    try:
        messages.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        failed = error.details["writeErrors"]
        if any(one["code"] != DUPLICATE_KEY for one in failed) or error.details["writeConcernErrors"]:
            raise
        for one in failed:
            document = documents[one["index"]]
            messages.replace_one({"_id": document["_id"]}, document, upsert=True)


def _trim(messages: Collection[Document], session_id: uuid.UUID, keep: int) -> None:
    """Deletes all but the newest `keep`. The server says which: with turns out of order the newest may not be ours."""
    mine = {"session_id": str(session_id)}
    for row in messages.find(mine, {"seq": 1}).sort("seq", -1).skip(keep).limit(1):
        messages.delete_many({**mine, "seq": {"$lte": row["seq"]}})
