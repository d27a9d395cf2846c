"""What a reviewer sees who asks whether one event is as it was recorded."""

from dataclasses import dataclass

from audit import notes
from audit.merkle import ProofError, verify_inclusion
from audit.models import Event
from audit.notes import NoteError
from audit.proofs import NotSealedYet, proof_for
from audit.publishing import checkpoint_conflict, published_latest
from audit.rows import Row, body_read, octets, row_problems, time_text
from audit.signing import verifiers
from audit.tiles import TileError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `detail` says in a sentence what was found."""

    name: str
    ok: bool
    detail: str


def row_of(event: Event) -> Row:
    return Row(
        event.pk, str(event.uid), time_text(event.at), event.kind, event.stream, event.stream_seq, event.actor_ref,
        octets(event.body), octets(event.leaf),
    )  # fmt: skip


def event_checks(event: Event) -> list[Check]:
    """The row, its place in the log, the signature over the log, and the last checkpoint that was published."""
    body = octets(event.body)
    problems = [sentence for _, sentence in row_problems(row_of(event), body_read(body))]
    row = Check("Record", not problems, "; ".join(problems) or "The row is what its body and its hash say.")
    return [row, *_log_checks(event)]


def _log_checks(event: Event) -> list[Check]:
    try:
        proof = proof_for(event)
        verify_inclusion(proof.leaf, proof.index, proof.size, proof.hashes, proof.root)
    except NotSealedYet:
        return [Check("Place in the log", False, "It has no place yet; the sealer gives one within seconds.")]
    except (TileError, ProofError) as error:
        return [Check("Place in the log", False, f"The log does not lead to it: {error}.")]
    same = proof.leaf == octets(event.leaf)
    place = f"It is leaf {proof.index}; {len(proof.hashes)} hashes lead to the root of {proof.size} leaves."
    checks = [
        Check(
            "Hash", same, "The log holds the hash of this row." if same else "The log holds another hash than this row."
        ),
        Check("Place in the log", True, place),
        _signature_check(proof.note, proof.size, proof.root),
    ]
    published = published_latest()
    if published is not None:
        problem = checkpoint_conflict(published)
        told = f"The checkpoint of {published.size} leaves kept elsewhere fits the log."
        checks.append(Check("Published checkpoint", not problem, problem or told))
    return checks


def _signature_check(note: str, size: int, root: bytes) -> Check:
    try:
        text, names = notes.note_open(note, verifiers())
        signed = notes.Checkpoint.parse(text)
    except NoteError as error:
        return Check("Signature", False, f"The checkpoint does not verify: {error}.")
    if (signed.size, signed.root) != (size, root):
        return Check("Signature", False, "What was signed is another size or root.")
    return Check("Signature", True, f"The checkpoint is signed by {', '.join(names)}.")
