"""Evidence as a ZIP file that anybody can verify without us: bodies, proofs, a signed checkpoint and the verifier.

The layout is that of audit/offline/verify.py, which goes into the file.
"""

import hashlib
import json
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.utils import timezone

from audit import actions
from audit.content import ContentUnreadable
from audit.models import Event
from audit.offline import verify
from audit.proofs import Proof, proofs_for
from audit.selectors import content_for_review, content_read, facts_of
from audit.signing import verifiers
from audit.tiles import TileError
from chat.models import Turn
from review.selectors import LogDamaged
from review.sheets import turns_csv

CHUNK = 500
PIECE_BYTES = 64 * 1024
# Beyond it the file is made on disk.
MEMORY_BYTES = 8_000_000
README = """Evidence exported by ONESource on {made_at}

{turns} turns, {events} events, under a checkpoint of {size} events of the log {origin}.

turns.csv          the facts of each turn, for a spreadsheet
events/            the recorded events themselves, byte for byte; the number is the place in the log
proofs/            for each of them the hashes that lead to the root of the log (RFC 6962, section 2.1.1)
checkpoint.txt     size and root of the log, signed (C2SP tlog-checkpoint, Ed25519)
keys.txt           the keys under which the operator signs; compare them with those that are published
content/           questions and answers that were revealed with this export, with the salts of their commitments
manifest.json      the SHA-256 of each file
verify.py          checks all of this: python verify.py   (needs Python 3.8 and the package cryptography)

An event holds facts, lengths and salted commitments, no text. Where content is missing it was not asked for, or it is
gone by the retention or an erasure; the proofs hold all the same.
"""


@dataclass
class _Bundle:
    """A ZIP being written, and the digests of what is in it."""

    archive: zipfile.ZipFile
    made_at: datetime
    files: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, body: bytes) -> None:
        info = zipfile.ZipInfo(name, self.made_at.timetuple()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        self.archive.writestr(info, body)
        self.files[name] = hashlib.sha256(body).hexdigest()

    def add_json(self, name: str, value: Any) -> None:
        self.add(name, json.dumps(value, ensure_ascii=False, indent=1).encode())


Evidence = list[tuple[Event, Proof]]


def evidence_zip(ids: Sequence[uuid.UUID], evidence: Evidence, *, with_content: bool) -> Iterator[bytes]:
    """The file in pieces. The caller has put the export on record."""
    file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  (closed by whoever reads the pieces)
    try:
        _bundle_write(file, ids, evidence, with_content=with_content)
    except BaseException:
        file.close()
        raise
    return _pieces(file)


def evidence_of(ids: Sequence[uuid.UUID]) -> Evidence:
    """The events of the turns in the order of the log, all proved under one checkpoint.

    Raises proofs.NotSealedYet while one has no place in the log, and LogDamaged.
    """
    events: list[Event] = []
    for start in range(0, len(ids), CHUNK):
        chunk = list(ids[start : start + CHUNK])
        turns = Turn.objects.filter(pk__in=chunk).values_list("event_uid", "session_id")
        events += Event.objects.filter(uid__in=[uid for uid, _ in turns])
        streams = {f"session:{session}" for _, session in turns}
        wanted = {str(pk) for pk in chunk}
        begun = Event.objects.filter(kind=actions.TURN_STARTED, stream__in=streams)
        events += [event for event in begun if facts_of(event).get("turn_id") in wanted]
    try:
        proofs = proofs_for(events)
    except TileError as error:
        raise LogDamaged() from error
    return sorted(zip(events, proofs, strict=True), key=lambda pair: pair[1].index)


def _bundle_write(file: IO[bytes], ids: Sequence[uuid.UUID], evidence: Evidence, *, with_content: bool) -> None:
    made_at = timezone.now()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        bundle = _Bundle(archive, made_at)
        for event, proof in evidence:
            bundle.add(f"events/{proof.index:012}.json", bytes(event.body))
            hashes = [value.hex() for value in proof.hashes]
            bundle.add_json(
                f"proofs/{proof.index:012}.json", {"index": proof.index, "size": proof.size, "hashes": hashes}
            )
        if with_content:
            for turn_id in ids:
                if content := _content(turn_id):
                    bundle.add_json(f"content/{turn_id}.json", content)
        bundle.add("turns.csv", "".join(turns_csv(ids)).encode())
        bundle.add("keys.txt", "".join(f"{verifier.vkey}\n" for verifier in verifiers()).encode())
        bundle.add("verify.py", Path(verify.__file__).read_bytes())
        size = evidence[0][1].size if evidence else 0
        if evidence:
            bundle.add("checkpoint.txt", evidence[0][1].note.encode())
        told = README.format(
            made_at=f"{made_at:%Y-%m-%d %H:%M:%S} UTC",
            turns=len(ids),
            events=len(evidence),
            size=size,
            origin=settings.AUDIT_LOG_ORIGIN,
        )
        bundle.add("README.txt", told.encode())
        _manifest_add(bundle, ids)


def _manifest_add(bundle: _Bundle, ids: Sequence[uuid.UUID]) -> None:
    bundle.add_json(
        "manifest.json",
        {
            "format": verify.FORMAT,
            "made_at": bundle.made_at.isoformat(),
            "origin": settings.AUDIT_LOG_ORIGIN,
            "files": dict(bundle.files),
            "turns": [str(pk) for pk in ids],
            "note": "Verify with: python verify.py",
        },
    )


def _content(turn_id: uuid.UUID) -> dict[str, Any] | None:
    """None when it is gone, or cannot be read any more."""
    row = content_for_review(turn_id)
    if row is None:
        return None
    try:
        payload = content_read(row)
    except ContentUnreadable:
        return None
    return {"turn_id": str(turn_id), **{name: payload[name] for name in ("question", "answer_text", "salt")}}


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while piece := file.read(PIECE_BYTES):
            yield piece
