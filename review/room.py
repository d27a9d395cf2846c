"""Whether an evidence ZIP stays within what its own verify.py reads. Reckoned before it is made: its making can take
hours, and it is on record by then."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db.models import Count, QuerySet, Sum, TextField
from django.db.models.functions import Cast, Coalesce, Length

from audit import actions
from audit.models import Event, HeldContent, TurnContent
from audit.offline import verify
from audit.tree import checkpoint_latest
from chat.models import Turn
from onesource.errors import BadInput

CHUNK = 500
# turns.csv, keys.txt, verify.py, checkpoint.txt, README.txt, manifest.json.
FIXED_FILES = 6
FIXED_BYTES = Path(verify.__file__).stat().st_size + 20_000
# A line of the manifest for each file; of a proof for each hash, and around them; what else a turn's texts come with.
LISTED_BYTES, HASH_BYTES, PROOF_BYTES, TEXT_BYTES = 130, 72, 80, 200
# Of a turn in turns.csv and the manifest, besides the columns whose length is asked for.
TURN_BYTES = 800


@dataclass(slots=True)
class Room:
    files: int = FIXED_FILES
    size: int = FIXED_BYTES

    def add(self, files: int, size: int) -> None:
        self.files += files
        self.size += size + files * LISTED_BYTES

    def check(self) -> None:
        if self.files > verify.FILES_LIMIT or self.size > verify.TOTAL_LIMIT:
            raise BadInput(
                f"This ZIP would have more than the {verify.FILES_LIMIT:,} files or {verify.TOTAL_LIMIT >> 20:,} MiB "
                "that verify.py reads. Narrow the time or another filter, and export in parts.",
                code="export_too_large",
            )


def room_check(ids: Sequence[uuid.UUID], *, with_content: bool) -> Room:
    """What the ZIP takes: no less than what comes, and somewhat more. Raises BadInput as soon as it is too much."""
    newest = checkpoint_latest()
    proof_bytes = PROOF_BYTES + HASH_BYTES * (newest.size if newest else 0).bit_length()
    room = Room()
    # At least these, which needs no asking.
    Room(FIXED_FILES + 2 * len(ids)).check()
    streams: set[str] = set()
    for start in range(0, len(ids), CHUNK):
        chunk = list(ids[start : start + CHUNK])
        turns = Turn.objects.filter(pk__in=chunk)
        new = {f"session:{session}" for session in turns.values_list("session_id", flat=True)} - streams
        streams |= new
        # All turns of these sessions that were begun: which of them are in `ids` is in the bodies only.
        begun = Event.objects.filter(kind=actions.TURN_STARTED, stream__in=new)
        for events in (Event.objects.filter(uid__in=turns.values("event_uid")), begun):
            count, size = _measured(events, "body")
            room.add(2 * count, size + count * proof_bytes)
        room.add(0, _rows_bytes(turns) + len(chunk) * TURN_BYTES)
        for contents in (TurnContent, HeldContent) if with_content else ():
            count, size = _measured(contents.objects.filter(turn_id__in=chunk), "sealed")
            room.add(count, size + count * TEXT_BYTES)
        room.check()
    return room


def _measured(rows: "QuerySet[Any]", column: str) -> tuple[int, int]:
    """How many rows, and how many bytes they have in this column."""
    found = rows.aggregate(count=Count("pk"), size=Coalesce(Sum(Length(column)), 0))
    return found["count"], found["size"]


def _rows_bytes(turns: "QuerySet[Turn]") -> int:
    """What the columns of no certain length take: a reference stands in a line twice when it is unknown."""
    texts = {name: Length(Cast(name, TextField())) for name in ("references", "repair_codes")}
    size = Sum(2 * texts["references"] + texts["repair_codes"])
    found: int = turns.aggregate(size=Coalesce(size, 0))["size"]
    return found
