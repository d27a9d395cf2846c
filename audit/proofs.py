"""What a third party needs to see that an event is in the log: its path to a signed root."""

from dataclasses import dataclass

from audit.merkle import Subtree, consistency_proof, inclusion_proof
from audit.models import Checkpoint, Event, Leaf
from audit.tree import checkpoint_latest, reader
from onesource.errors import Conflict

__all__ = ["NotSealedYet", "Proof", "checkpoint_latest", "consistency_for", "proof_for", "proofs_for"]

CHUNK = 10_000


class NotSealedYet(Conflict):
    code = "not_sealed_yet"
    title = "The event is on record and not yet in the log; that takes some seconds"


@dataclass(frozen=True, slots=True)
class Proof:
    """An inclusion proof (RFC 6962, 2.1.1) of leaf `index` in the log of `size` leaves, and the signed checkpoint."""

    index: int
    size: int
    leaf: bytes
    hashes: list[bytes]
    root: bytes
    note: str


def proof_for(event: Event) -> Proof:
    """Raises NotSealedYet, and audit.tiles.TileError for a log that lacks what was in it."""
    return proofs_for([event])[0]


def proofs_for(events: list[Event]) -> list[Proof]:
    """Proofs of all of them under one checkpoint, in their order. Raises as proof_for."""
    checkpoint = checkpoint_latest()
    ids = [event.pk for event in events]
    leaves: dict[int, Leaf] = {}
    # SQLite takes so many parameters and no more.
    for start in range(0, len(ids), CHUNK):
        leaves |= {leaf.event_id: leaf for leaf in Leaf.objects.filter(event_id__in=ids[start : start + CHUNK])}
    if checkpoint is None or any(event.pk not in leaves for event in events):
        raise NotSealedYet(retry_after=10)
    subtree = reader(checkpoint.size).subtree
    return [_proof(leaves[event.pk], checkpoint, subtree) for event in events]


def _proof(leaf: Leaf, checkpoint: Checkpoint, subtree: Subtree) -> Proof:
    if leaf.index >= checkpoint.size:
        raise NotSealedYet(retry_after=10)
    hashes = inclusion_proof(leaf.index, checkpoint.size, subtree)
    return Proof(leaf.index, checkpoint.size, bytes(leaf.hash), hashes, bytes(checkpoint.root), checkpoint.note)


def consistency_for(old_size: int, new_size: int) -> list[bytes]:
    """That the log of `old_size` leaves is a prefix of the other (RFC 6962, 2.1.2). Raises merkle.ProofError."""
    return consistency_proof(old_size, new_size, reader(new_size).subtree)
