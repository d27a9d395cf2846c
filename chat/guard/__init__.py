from chat.guard.codes import CODES, Class
from chat.guard.guard import Event, Guarded, draft_text, guard, plain
from chat.guard.schema import InvalidAnswer, answer_check, wire_schema

__all__ = [
    "CODES",
    "Class",
    "Event",
    "Guarded",
    "InvalidAnswer",
    "answer_check",
    "draft_text",
    "guard",
    "plain",
    "wire_schema",
]
