from collections.abc import Iterator, Sequence

from django.db.models import QuerySet

from knowledge.models import Document, IndexVersion, Passage


def index_version() -> str:
    """The state an index must hold, as text fit for a file name; "0" when nothing was ever loaded."""
    row = IndexVersion.objects.filter(pk=1).values_list("number", "stamp").first()
    return f"{row[0]}-{row[1].hex[:12]}" if row else "0"


def passages_with_phrases() -> QuerySet[Passage]:
    """The notes whose phrases the matcher learns from: those of packs. Ingested passages have none."""
    return Passage.objects.filter(document__kind=Document.Kind.PACK).order_by("document__source", "position")


def passages_for_index() -> Iterator[Passage]:
    return Passage.objects.select_related("document").order_by("pk").iterator(chunk_size=500)


def passages_by_id(ids: Sequence[int]) -> dict[int, Passage]:
    return {passage.pk: passage for passage in Passage.objects.select_related("document").filter(pk__in=ids)}


def reference_texts() -> Iterator[list[str]]:
    """The texts that name what the knowledge base holds. Running text of ingested documents only mentions things."""
    notes = Passage.objects.filter(document__kind=Document.Kind.PACK)
    for *texts, clauses in notes.values_list("title", "text", "reference", "caution", "clauses").iterator():
        yield [*texts, *clauses, *(f"clause {clause}" for clause in clauses)]
    ingested = Passage.objects.filter(document__kind=Document.Kind.INGESTED).exclude(clauses=[])
    for reference, clauses in ingested.values_list("reference", "clauses").iterator(chunk_size=2000):
        yield [reference, *clauses]


def passages_by_key(keys: Sequence[str]) -> list[Passage]:
    """In the order of `keys`, without those that are gone; a note of the pack before an ingested piece."""
    rows = Passage.objects.filter(key__in=keys).select_related("document")
    found: dict[str, Passage] = {}
    for passage in sorted(rows, key=lambda row: (row.document.kind != Document.Kind.PACK, row.pk)):
        found.setdefault(passage.key, passage)
    return [found[key] for key in keys if key in found]
