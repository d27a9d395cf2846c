import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from django.db import transaction
from django.db.models import F

from audit import actions
from audit.actors import actor_current
from audit.services import event_record
from knowledge.extraction import ExtractedDocument, document_extract
from knowledge.models import Document, IndexVersion, Passage
from knowledge.pack import STARTER, PackFile, pack_hash, pack_paths, pack_read
from knowledge.references import references_find


@dataclass(frozen=True, slots=True)
class PackLoaded:
    documents: int
    notes: int
    changed: int
    removed: int


@dataclass(frozen=True, slots=True)
class Ingested:
    document: Document
    passages: int
    changed: bool


def index_version_advance() -> None:
    """Belongs in the transaction that changes passages, so that no index can miss the change."""
    IndexVersion.objects.get_or_create(pk=1)
    IndexVersion.objects.filter(pk=1).update(number=F("number") + 1, stamp=uuid4())


def _change_record(what: str, **facts: int | str) -> None:
    """What answers may cite has changed. No title and no path: both are the operator's own texts."""
    actor = actor_current()
    event_record(
        kind=actions.KNOWLEDGE_CHANGED,
        stream="knowledge",
        actor_ref=actor.ref,
        facts={"what": what, **facts, "source": actor.source},
    )


def pack_load(*, folder: Path = STARTER) -> PackLoaded:
    """Bring the database to the pack on disk; one query when nothing changed. Raises PackError before any write."""
    paths = pack_paths(folder)
    prefix = f"{folder.name}/"
    held = dict(
        Document.objects.filter(kind=Document.Kind.PACK, source__startswith=prefix).values_list(
            "source", "content_hash"
        )
    )
    fresh = [path for path in paths if held.get(prefix + path.stem) != pack_hash(path)]
    gone = held.keys() - {prefix + path.stem for path in paths}
    files = [pack_read(path) for path in fresh]
    notes = 0
    if files or gone:
        with transaction.atomic():
            for file in files:
                notes += _pack_file_store(file)
            Document.objects.filter(source__in=gone).delete()
            index_version_advance()
            _change_record("pack", changed=len(files), removed=len(gone), passages=notes)
    return PackLoaded(documents=len(paths), notes=notes, changed=len(files), removed=len(gone))


def _pack_file_store(file: PackFile) -> int:
    document, _ = Document.objects.update_or_create(
        source=file.source,
        defaults={
            "title": file.title,
            "licence": file.licence,
            "content_hash": file.content_hash,
            "kind": Document.Kind.PACK,
        },
    )
    document.passages.all().delete()
    Passage.objects.bulk_create(
        Passage(
            document=document,
            key=note["id"],
            position=position,
            heading=file.title,
            title=note["title"],
            reference=note["reference"],
            text=note["text"],
            edition=note["edition"],
            jurisdiction=note["jurisdiction"],
            confidence=note["confidence"],
            caution=note.get("caution") or "",
            clauses=note["clauses"],
            subjects=note["subjects"],
            aspects=note["aspects"],
            asked_as=note["asked_as"],
            not_answered=note["not_answered"],
            figures=note["figures"],
        )
        for position, note in enumerate(file.notes)
    )
    return len(file.notes)


def document_ingest(path: Path, *, source: str = "") -> Ingested:
    """Read a file into passages. Raises ExtractionError with a reason fit to show; nothing is written then."""
    source = source or str(path.resolve())
    extracted = document_extract(path)
    held = Document.objects.filter(source=source).first()
    if held and held.content_hash == extracted.content_hash:
        return Ingested(held, held.passages.count(), changed=False)
    with transaction.atomic():
        document, _ = Document.objects.update_or_create(
            source=source,
            defaults={
                "title": extracted.title[:300],
                "content_hash": extracted.content_hash,
                "kind": Document.Kind.INGESTED,
            },
        )
        document.passages.all().delete()
        Passage.objects.bulk_create(_passages(document, extracted), batch_size=500)
        index_version_advance()
        _change_record("document", changed=1, removed=0, passages=len(extracted.pieces), hash=extracted.content_hash)
    return Ingested(document, len(extracted.pieces), changed=True)


def _passages(document: Document, extracted: ExtractedDocument) -> list[Passage]:
    passages = []
    for position, piece in enumerate(extracted.pieces):
        clauses = list(dict.fromkeys(named.text for named in references_find(f"{piece.heading}\n{piece.text}")))[:40]
        passages.append(
            Passage(
                document=document,
                key=f"{position:05d}-{hashlib.sha256(piece.text.encode()).hexdigest()[:12]}",
                position=position,
                heading=piece.heading[:1000],
                title=piece.heading.rsplit(" > ", 1)[-1][:300] or extracted.title[:300],
                reference=clauses[0][:500] if clauses else "",
                text=piece.text,
                confidence="ingested",
                clauses=clauses,
            )
        )
    return passages


def documents_prune(*, sources_kept: Sequence[str], under: str) -> int:
    """Remove ingested documents whose source lies under a folder and is not among those kept; how many."""
    prefix = under.rstrip("/") + "/"
    with transaction.atomic():
        gone = Document.objects.filter(kind=Document.Kind.INGESTED, source__startswith=prefix).exclude(
            source__in=sources_kept
        )
        count = gone.count()
        if count:
            gone.delete()
            index_version_advance()
            _change_record("prune", changed=0, removed=count, passages=0)
    return count
