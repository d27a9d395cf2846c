from chat.guard.codes import CODES, Class
from chat.guard.draft import draft_text
from chat.guard.events import Event, Guarded
from chat.guard.explain import explain
from chat.guard.guard import guard, guard_blocks, plain
from chat.guard.scanner import Scanner
from chat.guard.schema import InvalidAnswer, answer_check
from chat.guard.wire import wire_schema

__all__ = [
    "CODES",
    "Class",
    "Event",
    "Guarded",
    "InvalidAnswer",
    "Scanner",
    "answer_check",
    "draft_text",
    "explain",
    "guard",
    "guard_blocks",
    "plain",
    "wire_schema",
]
