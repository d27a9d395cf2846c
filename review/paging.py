"""Pages by keyset, the newest first: the cursor is the last row's place, signed, so that none but ours is taken."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Coalesce

from onesource.errors import BadInput
from review.damage import readable

PAGE = 50
LOOKED_AT = 5000
Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    rows: list[Row]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Keyset:
    """`by` names the column of time; `key` reads a primary key back from its text."""

    by: str
    key: type[uuid.UUID] | type[int]

    @property
    def salt(self) -> str:
        return f"onesource.review.{self.by}"

    def cursor(self, row: Any) -> str:
        return signing.dumps([getattr(row, self.by).isoformat(), str(row.pk)], salt=self.salt)

    def after(self, cursor: str) -> Q:
        """Rows older than the cursor's. Raises BadInput for a cursor that we did not give."""
        try:
            at, key = signing.loads(cursor, salt=self.salt)
            at, key = datetime.fromisoformat(at), self.key(key)
        except (signing.BadSignature, ValueError, TypeError):
            raise BadInput("This cursor is not one of ours. Start again without it.", code="bad_cursor") from None
        # The first condition alone is one that an index can start from.
        return Q(**{f"{self.by}__lte": at}) & (Q(**{f"{self.by}__lt": at}) | Q(pk__lt=key))


def page_read(
    rows: QuerySet[Row], keyset: Keyset, *, cursor: str, ordered: Sequence[Any] = (), scattered: Sequence[Any] = ()
) -> Page[Row]:
    """One page of those of `rows` that meet all conditions. Raises BadInput for a foreign cursor, and RecordDamaged.

    `rows` is bounded by time alone. One `ordered` condition has an index that gives its rows in the order of time. For
    others a database has to guess whether it finds a page sooner from the newest row on or by an index that leaves the
    order to be made, and guesses badly for what is rare. So the newest LOOKED_AT rows are looked through first, and
    only what is rarer than a page in those is looked up by its index.
    """
    if cursor:
        rows = rows.filter(keyset.after(cursor))
    with readable():
        found = _newest(rows, keyset, ordered, scattered)
        if len(found) <= PAGE:
            return Page(found, None)
        return Page(found[:PAGE], keyset.cursor(found[PAGE - 1]))


def _newest(rows: QuerySet[Row], keyset: Keyset, ordered: Sequence[Any], scattered: Sequence[Any]) -> list[Row]:
    """A page and one more, if there is one."""
    matching = rows.filter(*ordered, *scattered)
    newest = (f"-{keyset.by}", "-pk")
    if scattered or len(ordered) > 1:
        edge = rows.order_by(f"-{keyset.by}").values_list(keyset.by, flat=True)[LOOKED_AT : LOOKED_AT + 1].first()
        if edge:
            found = list(matching.filter(**{f"{keyset.by}__gt": edge}).order_by(*newest)[: PAGE + 1])
            if len(found) > PAGE:
                return found
            # An expression, which no index gives the order of.
            newest = (Coalesce(keyset.by, keyset.by).desc(), "-pk")  # type: ignore[assignment]
    return list(matching.order_by(*newest)[: PAGE + 1])
