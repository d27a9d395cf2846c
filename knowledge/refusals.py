"""Questions that are declined for what they are, before any note is weighed.

Each rule gives a fixed code. The rules are about form and about closed sets (there is no Class 12, no Volume Five), so
that they hold whatever the knowledge base says.
"""

import re

from knowledge.normalise import fold
from knowledge.reading import Reading
from knowledge.references import KnownReferences, Named

NOT_A_QUESTION, UNKNOWN_CLAUSE, NOT_COVERED, NO_MATCH = "not_a_question", "unknown_clause", "not_covered", "no_match"

# Attempts to give the system orders, or to have it invent things. Each line is one way of trying.
_SET_ASIDE = r"\b(?:ignor\w*|disregard\w*|forget|overrid\w*|bypass)\b.{0,24}"
_DISCLOSE = r"\b(?:print|reveal|show|repeat|output|dump|leak|display|list|tell)\b.{0,40}"
_ORDERS = re.compile(
    "|".join(
        [
            _SET_ASIDE + r"\b(?:instruction|prompt|guideline|guardrail|restriction|note|source)s?\b",
            _SET_ASIDE + r"\b(?:previous|prior|above|training|everything|what you were told)\b",
            r"\b(?:ignore|forget|break|drop)\b.{0,12}\b(?:your|ur|all|these|those)\b.{0,12}\b(?:rule|knowledge|safety)s?\b",
            r"\b(?:disregard)\b.{0,12}\b(?:your|ur|all|these|those)\b.{0,12}\b(?:rule|knowledge|safety)s?\b",
            r"\bmake (?:something|one|it|stuff|them|some) up\b|\bmak(?:e|ing) up\b(?! (?:air|of|water))|\bmade[ -]up\b",
            r"\binvent(?:s|ed|ing)?\b|\bfabricat(?:e|es|ing)\b|\bhallucinat\w*|\bfalsif\w*|\bcounterfeit\w*",
            r"\bforge (?:a|an|the|me)\b",
            r"\b(?:write|draft|create|issue|produce|generate|give|sign)\b.{0,25}\b(?:fake|false|forged|bogus|sham)\b",
            r"\b(?:system|hidden|secret|initial|internal|confidential)\s+(?:prompt|instruction|message|text)s?\b",
            r"^\W*(?:system|assistant|developer|admin|root)\s*:",
            r"\b(?:developer|admin|debug|god|dan|sudo|jailbreak) mode\b|\b(?:do anything now|prompt injection)\b",
            r"\b(?:you are|you're|youre|u r|ur) now (?:a|an|in|the|my|free)\b|\bfrom now on\b|\bimagine you\b",
            r"\bpretend\b|\brole ?play\b|(?:^|[.!?:]\s*|\byou (?:will|must|should|to) |\bplease )act (?:as|like)\b",
            _DISCLOSE + r"\b(?:prompt|instructions|passwords?|keys?|secrets?|tokens?|file names|source code)\b",
            _DISCLOSE + r"\b(?:verbatim|everything above|word by word|environment variables?)\b",
            r"\b(?:just|only|please|then) (?:guess|speculate|improvise|bluff)\b|\btake a (?:wild )?guess\b",
            r"\bnever say (?:that )?you\b|\b(?:don't|dont|do not) say (?:that )?you (?:don't|dont|do not|can't|cannot)",
            r"\bwithout any (?:sources?|restrictions?|filters?|rules)\b|\bwhatever (?:you|u) (?:like|want|think)\b",
            r"</?\s*(?:notes?|system|user|assistant|instructions?|context|passages?|s|im_start|im_end)\s*/?>",
            r"\[/?inst\]|<\||\b(?:base64|rot13)\b|\blanguage model\b",
            r"\bplausible\b|\bbelievable\b|\bno(?:body| ?one) will (?:check|know|notice)\b",
            r"\b(?:look|sound)s? (?:real|official|convincing)\b|\bmy (?:late )?(?:grandmother|grandma|nan) used to\b",
            r"\b(?:answer|respond|reply|speak) only (?:with|in|as)\b|\bend (?:every|each|your) (?:answer|sentence)",
            r"\b(?:new|updated) (?:notes?|instructions?)\s*:|\bprevious (?:instruction|message|prompt)s?\b",
        ]
    ),
    re.DOTALL,
)
_PLEASANTRIES = [
    r"hi|hello|hey|hiya|yo|gday|g'day|kia ora|good (?:morning|afternoon|evening|night|day)|howdy|bye|goodbye",
    r"cheers|thanks|thank you|ta|lol|haha|ok|okay|cool|nice|great|sweet|legend|mate|there|again|all|everyone|heaps",
    r"so much|very much|a lot|how are (?:you|ya)|how(?:'s| is) it going|how are you going|how ya going|what'?s up",
    r"who are you|what are you|are you (?:a |an )?(?:robot|bot|human|ai|real|there)|see (?:you|ya)|you'?re|you|your",
    r"a|an|the|for|help|that|was|is|it|my|me|to|talk|tomorrow|later|today|good|well|done|and|or|person|real|human",
]
_CHAT = re.compile(rf"^(?:(?:{'|'.join(_PLEASANTRIES)})\b[\s,.!?']*)+$")
_CLASS = re.compile(r"class(\d{1,2})([a-c]?)$")
_LETTERS = {"1": "ab", "7": "ab", "9": "abc", "10": "abc"}
_VOLUME = re.compile(
    r"\bvolumes?\s{0,2}(?:(four|five|six|seven|eight|nine|ten|zero)|(\d{1,2})|(iv|v|vi|vii|viii|ix|x)\b)"
)
_BAL = re.compile(r"\bbal[\s-]{0,2}(\d{1,3}(?:\.\d)?)\b")
_BALS = frozenset({"12.5", "12", "19", "29", "40"})
_TYPE = re.compile(r"\btype\s([d-z])\s(?:construction|building|fire.resisting)")
_EDITION = re.compile(r"\b(?:ncc|bca|national construction code)\s{0,2}(?:of\s)?((?:19|20)\d{2})\b")
_EDITIONS = frozenset({"2019", "2022", "2025"})
_WIND = re.compile(r"\bwind (?:class(?:ification)?|rating|category) ([nc])(\d{1,2})\b|\b([nc])(\d{1,2}) wind\b")
_ZONE = re.compile(r"\bclimate zone (\d{1,2})\b")


def refusal(question: str, reading: Reading, known: KnownReferences) -> str | None:
    """The code of the first rule that declines the question, or None."""
    folded = fold(question)
    if not any(letter.isalpha() for letter in folded) or _CHAT.match(folded) or _ORDERS.search(folded):
        return NOT_A_QUESTION
    if any(not _held(named, known) for named in reading.references):
        return UNKNOWN_CLAUSE
    if "XX" in reading.places or _impossible(folded, reading):
        return NOT_COVERED
    return None


def is_empty(reading: Reading) -> bool:
    return not (reading.things or reading.references or reading.classes or reading.content or reading.figures)


def is_gibberish(reading: Reading) -> bool:
    """Hardly a word that anybody knows; names of an ingested document may look like this too."""
    return len(reading.unknown) >= 3 and len(reading.unknown) >= 0.6 * len(reading.content)


def _held(named: Named, known: KnownReferences) -> bool:
    # "as 1000 people" may be no standard at all, and a dotted number that nobody called a clause accuses nobody.
    return named.kind in {"maybe", "dotted"} or known.holds_base(named)


def _impossible(folded: str, reading: Reading) -> bool:
    """Members of closed sets that do not exist."""
    for name in reading.classes:
        match = _CLASS.match(name)
        if match and (not 1 <= int(match[1]) <= 10 or (match[2] and match[2] not in _LETTERS.get(match[1], ""))):
            return True
    if (volume := _VOLUME.search(folded)) and not (volume[2] and 1 <= int(volume[2]) <= 3):
        return True
    if any(match[1] not in _BALS for match in _BAL.finditer(folded)):
        return True
    if any(match[1] not in _EDITIONS for match in _EDITION.finditer(folded)):
        return True
    if any(not 1 <= int(match[1]) <= 8 for match in _ZONE.finditer(folded)):
        return True
    for match in _WIND.finditer(folded):
        letter, number = match[1] or match[3], int(match[2] or match[4])
        if not 1 <= number <= (6 if letter == "n" else 4):
            return True
    return _TYPE.search(folded) is not None
