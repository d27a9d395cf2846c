"""The repair codes: one fixed plain sentence each, so that two reviewers read the same thing.

A code's class says how far the result is from what the model wrote: noise around the answer, its syntax, its shape,
something we derived, something lost or in doubt (shown to the user), or the fallback. `CODES` is append-only: a code
stands in audit records for years.
"""

from dataclasses import dataclass
from enum import Enum


class Class(Enum):
    NOISE = "N"
    SYNTAX = "S"
    SHAPE = "A"
    DERIVED = "D"
    LOSS = "L"
    FALLBACK = "F"


@dataclass(frozen=True, slots=True)
class Code:
    name: str
    cls: Class
    sentence: str


_TABLE: dict[Class, dict[str, str]] = {
    Class.NOISE: {
        "BOM": "A byte order mark before the answer was left out.",
        "THINK": "The model's notes to itself, which are not part of the answer, were left out.",
        "SSE": "Markers of the streaming protocol around the answer were left out.",
        "FENCE": "Code fences around the answer were left out.",
        "PREFIX": "A few words before the answer were left out.",
        "SUFFIX": "A few words after the answer were left out.",
        "REPEATED": "The model gave the same answer twice; it is shown once.",
    },
    Class.SYNTAX: {
        "SURROGATE": "A character that is not valid Unicode was replaced.",
        "TRAILING_COMMA": "A comma too many was left out.",
        "MISSING_COMMA": "A comma was missing between two parts.",
        "MISSING_COLON": "A colon was missing between a name and its value.",
        "MISSING_CLOSE": "A closing bracket was missing.",
        "MISSING_OPEN": "An opening bracket was missing.",
        "WRONG_CLOSE": "A closing bracket was of the wrong kind.",
        "EXTRA_CLOSE": "A closing bracket too many was left out.",
        "MISSING_QUOTE": "A quotation mark at the start or end of a text was missing.",
        "QUOTE_STYLE": "A text stood in other quotation marks than agreed.",
        "UNESCAPED_QUOTE": "Quotation marks inside a text were not marked as such.",
        "HTML_ESCAPED": "The answer was written with the escapes of HTML.",
        "URL_ENCODED": "The answer was written with the escapes of web addresses.",
        "RAW_CONTROL": "Line breaks or tabs inside a text were not marked as such.",
        "BAD_ESCAPE": "A backslash inside a text was not marked as such.",
        "CTRL_RESTORED": "A backslash that had turned into a control character was put back.",
        "CONTROL": "Control characters, which cannot be shown, were left out.",
        "INVISIBLE": "Invisible characters were left out.",
        "BIDI": "Characters that change the direction of the text were left out.",
        "LINK_REMOVED": "A link to something other than a web or mail address is shown as text.",
        "UNQUOTED_KEY": "A name stood without quotation marks.",
        "UNQUOTED_VALUE": "A value stood without quotation marks.",
        "PY_LITERAL": "A value was written as in Python.",
        "NAN": "A value that is not a number was taken as text.",
        "COMMENT": "A comment between the parts of the answer was left out.",
        "DUP_KEY": "A part was given twice; both are shown.",
    },
    Class.SHAPE: {
        "KEY_ALIAS": "A part had another name than agreed.",
        "WRAPPED": "The answer or a part of it lay inside an extra layer.",
        "DOUBLE_ENCODED": "A part was encoded twice.",
        "TYPE_INFERRED": "The kind of a block was missing or unknown and was inferred from its parts.",
        "TABLE_WAS_MARKDOWN": "A table was written as text and was set as a table.",
        "ROWS_WERE_OBJECTS": "The rows of a table were given by name and were set in columns.",
        "LIST_WAS_STRING": "A list was written as one text and was set as a list.",
        "TEXT_WAS_LIST": "A text was given in pieces, which were joined.",
        "BLOCK_WAS_STRING": "A block was given as bare text.",
        "ITEM_COERCED": "A value was of another kind than agreed and is shown as text.",
        "LEGACY_TEXT": "The reply had the form of the previous product and was carried over.",
        "SPLIT_LONG": "A part was longer than is accepted and was split.",
        "BLOCKS_MERGED": "There were more blocks than are accepted; the last ones were joined.",
        "STREAM_KEPT": "Blocks that had been sent already were kept as they were.",
    },
    Class.DERIVED: {
        "TITLE_DERIVED": "The reply had no title; its first words serve as one.",
        "SUMMARY_DERIVED": "The reply had no summary; it is left empty.",
        "BLOCKS_DERIVED": "The reply had no blocks; its summary or title serves as one.",
        "FIELD_DERIVED": "A part of a block was missing and got the default.",
    },
    Class.LOSS: {
        "TRUNCATED": "The reply ended before it was finished; its end is missing.",
        "TOO_DEEP": "A part was nested deeper than is accepted; it is shown as the model wrote it.",
        "OVERSIZE": "The reply was longer than is accepted; its end was left out.",
        "AMBIGUOUS": "The reply can be read in two ways; the more likely one is shown.",
        "EXTRA_KEYS": "The reply had parts that were not agreed; they are shown at the end.",
        "OUTSIDE_TEXT": "The reply had text around the answer; it is shown at the end.",
        "SECOND_ANSWER": "The reply held more than one answer; all are shown, one after the other.",
        "STRAY_TEXT": "Some words stood outside of any part; they are shown at the end.",
        "WORDS_KEPT": "Some words had found no place; they are shown at the end, as the model wrote them.",
    },
    Class.FALLBACK: {
        "RAW_FALLBACK": "The reply did not have the agreed form; it is shown word for word.",
        "REFUSAL": "The model declined to answer; its refusal is shown.",
        "EMPTY": "The model replied with nothing.",
    },
}

CODES: dict[str, Code] = {
    name: Code(name, cls, sentence) for cls, sentences in _TABLE.items() for name, sentence in sentences.items()
}
