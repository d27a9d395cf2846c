"""What the rest of the product asks: `search` for passages to show a model, `judge` for an answer without one."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
import tantivy

from knowledge import selectors
from knowledge.conversation import question_read
from knowledge.features import candidates
from knowledge.index import Snapshot, analyzer, snapshot_current, snapshot_forget
from knowledge.lexicon import lexicon
from knowledge.models import Document, Passage
from knowledge.reading import Reader, Reading
from knowledge.refusals import NO_MATCH, NOT_A_QUESTION, NOT_COVERED, is_empty, is_gibberish, refusal
from knowledge.weighing import answer_row, is_beside_the_point, model

log = structlog.get_logger(__name__)
ANSWERED = "answered"
LONGEST_QUESTION = 4000
WHOLE = 1000.0
NEAR_SECOND = 1.5
"""A second note is given too when its ranking score is this close to the first's: the question then fits both. Measured
on the labelled phrases, each left out in turn: 1.2 notes an answer, and the right one among them for 94 % rather than
89 %."""
FOLLOW_UP = 0.5
MOST_ANSWERS, MOST_RELATED = 3, 4
RANK_CONSTANT = 10
"""Of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009); small, because the lists are short."""
_BOOSTS = {"heading": 2.0, "asked": 1.2, "body": 1.0}
_analyzer = analyzer()
# Correction knows the words of the notes only, and would bend the names that stand in an ingested document.
_as_typed = Reader(lexicon(), None)


@dataclass(frozen=True, slots=True)
class Found:
    passage_id: int
    key: str
    source: str
    title: str
    heading: str
    reference: str
    text: str
    edition: str
    jurisdiction: str
    confidence: str
    caution: str
    clauses: tuple[str, ...]
    figures: tuple[str, ...]
    score: float

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Verdict:
    """No `answers`: we do not know, and `reason` is not_a_question, unknown_clause, not_covered or no_match."""

    answers: tuple[Found, ...]
    related: tuple[Found, ...]
    reason: str


def search(question: str, *, limit: int = 6, history: Sequence[str] = ()) -> list[Found]:
    """The passages nearest to a question, best first. Recall matters here: whoever reads them judges."""
    snapshot = snapshot_current()
    reading = question_read(question[:LONGEST_QUESTION], history, snapshot.matcher.reader)
    order, probability = _ranked_notes(snapshot, reading)
    lists = [
        # Notes that hardly answer stand back behind documents that share the words.
        (0.3 + 0.7 * probability, [snapshot.ids[index] for index, _ in order]),
        (0.6, _full_text(snapshot, question[:LONGEST_QUESTION], reading, 2 * limit, kind=Document.Kind.INGESTED)),
        (0.9, _by_reference(snapshot, reading, limit)),
    ]
    scores: dict[int, float] = {}
    for weight, ids in lists:
        for rank, passage in enumerate(ids):
            scores[passage] = scores.get(passage, 0.0) + weight / (RANK_CONSTANT + rank)
    best = sorted(scores, key=lambda passage: -scores[passage])[: 2 * limit]
    return _without_doubles(_found(best, scores))[:limit]


def judge(question: str, *, history: Sequence[str] = ()) -> Verdict:
    """The notes that answer a question, word for word, or the reason why none does."""
    snapshot = snapshot_current()
    question = question[:LONGEST_QUESTION]
    alone = snapshot.matcher.reader.read(question)
    if reason := refusal(question, alone, snapshot.references):
        return Verdict((), (), reason)
    reading = question_read(question, history, snapshot.matcher.reader)
    whole = snapshot.matcher.whole_phrase(reading)
    if not whole and (is_empty(reading) or is_gibberish(reading)):
        return _from_documents(snapshot, question, (), NOT_A_QUESTION)
    weights = model()
    rows = candidates(snapshot.matcher, reading, weights.aspect_odds)
    order = weights.order(rows)
    if whole and whole[1]:
        order = [(whole[0], WHOLE), *((index, score) for index, score in order if index != whole[0])]
    ids = [snapshot.ids[index] for index, _ in order]
    if not order:
        return _from_documents(snapshot, question, (), NO_MATCH)
    first, best = order[0]
    probability = float(whole[1]) if whole else weights.probability(answer_row(rows, order))
    # What a follow-up leaves out was said before: fewer of its words can fit, and it means the more surely this thing.
    threshold = weights.threshold * (FOLLOW_UP if reading.text != alone.text else 1.0)
    if probability < threshold or (not whole and (rows[first]["place_clash"] or is_beside_the_point(rows[first]))):
        related = tuple(_found(ids[:MOST_RELATED], {})) if first in rows and rows[first]["subject"] else ()
        return _from_documents(snapshot, question, related, NOT_COVERED if related else NO_MATCH)
    count = sum(best - score <= NEAR_SECOND for _, score in order[:MOST_ANSWERS])
    found = _found(ids[: MOST_ANSWERS + MOST_RELATED], {ids[0]: round(probability, 3)})
    return Verdict(tuple(found[:count]), tuple(found[count : count + MOST_RELATED]), ANSWERED)


def _ranked_notes(snapshot: Snapshot, reading: Reading) -> tuple[list[tuple[int, float]], float]:
    weights = model()
    rows = candidates(snapshot.matcher, reading, weights.aspect_odds)
    order = weights.order(rows)
    return order, weights.probability(answer_row(rows, order)) if order else 0.0


def _from_documents(snapshot: Snapshot, question: str, related: tuple[Found, ...], reason: str) -> Verdict:
    """Ingested passages have no labelled phrases, so one answers only when it says every word that is asked."""
    reading = _as_typed.read(question)
    # The word "clause" asks for nothing.
    asked = {
        stem for stem, weight in reading.content.items() if weight >= 1 and reading.covers.get(stem) != {"@clause"}
    }
    if len(asked) >= 2:
        ids = _full_text(snapshot, question, reading, 3, kind=Document.Kind.INGESTED)
        for found in _found(ids, {}):
            passage = _as_typed.read(f"{found.heading} . {found.text}")
            said = passage.content.keys() | {"=" + name for name in passage.things}
            if all(stem in said or reading.covers.get(stem, set()) & said for stem in asked):
                return Verdict((found,), related, ANSWERED)
    return Verdict((), related, reason)


def _full_text(snapshot: Snapshot, question: str, reading: Reading, limit: int, kind: str = "") -> list[int]:
    """Passage ids by BM25. Terms are made here, not parsed: nothing in a question is query syntax."""
    terms = dict.fromkeys(_analyzer.analyze(f"{question} {reading.text}"[:LONGEST_QUESTION]))
    schema = snapshot.index.schema
    clauses = [
        (tantivy.Occur.Should, tantivy.Query.boost_query(tantivy.Query.term_query(schema, name, term), boost))
        for term in list(terms)[:64]
        for name, boost in _BOOSTS.items()
    ]
    if not clauses:
        return []
    query = tantivy.Query.boolean_query(clauses)
    if kind:
        only = tantivy.Query.term_query(schema, "kind", kind)
        query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, only)])
    return _passage_ids(snapshot, query, limit)


def _by_reference(snapshot: Snapshot, reading: Reading, limit: int) -> list[int]:
    keys = {named.key for named in reading.references}
    clauses = [
        (tantivy.Occur.Should, tantivy.Query.term_query(snapshot.index.schema, "reference", key))
        for key in sorted(keys)
    ]
    return _passage_ids(snapshot, tantivy.Query.boolean_query(clauses), limit) if clauses else []


def _passage_ids(snapshot: Snapshot, query: tantivy.Query, limit: int) -> list[int]:
    searcher = snapshot.index.searcher()
    try:
        hits = searcher.search(query, limit).hits
        return [searcher.doc(address)["passage"][0] for _, address in hits]
    except (ValueError, OSError):
        # A file of the index has gone bad under us: this question does without, the next finds a new index.
        log.exception("knowledge_index_broken", version=snapshot.version)
        snapshot_forget(broken=True)
        return []


def passages_named(keys: Sequence[str]) -> list[Found]:
    """Those that there still are, in the order of `keys`; of two documents with one key, the pack's."""
    return [_as_found(passage, 0.0) for passage in selectors.passages_by_key(keys)]


def _found(ids: Sequence[int], scores: dict[int, float]) -> list[Found]:
    passages = selectors.passages_by_id(ids)
    return [_as_found(passages[passage], scores.get(passage, 0.0)) for passage in ids if passage in passages]


def _as_found(passage: Passage, score: float) -> Found:
    return Found(
        passage_id=passage.pk,
        key=passage.key,
        source=passage.document.source,
        title=passage.title or passage.document.title,
        heading=passage.heading,
        reference=passage.reference,
        text=passage.text,
        edition=passage.edition,
        jurisdiction=passage.jurisdiction,
        confidence=passage.confidence,
        caution=passage.caution,
        clauses=tuple(passage.clauses),
        figures=tuple(passage.figures),
        score=score,
    )


def _without_doubles(found: Iterable[Found]) -> list[Found]:
    """The same text from two documents is shown once, from the one that ranks higher."""
    kept: dict[str, Found] = {}
    for item in found:
        kept.setdefault(" ".join(item.text.lower().split()), item)
    return list(kept.values())
