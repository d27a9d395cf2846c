"""Bulk writes of users go on record as single ones do, though Django sends no signal for them."""

from typing import Any

from django.contrib.auth.models import User, UserManager
from django.db import NotSupportedError, models, transaction

from audit.accounts import UNTOLD, user_changed_record, user_made_record


class RecordedUsers(models.QuerySet[User]):
    def update(self, **values: Any) -> int:
        """One event for each user who changed; bulk_update() comes through here too."""
        told = sorted(values.keys() - UNTOLD)
        if not told or self.model is not User:
            # Of a migration the historical model, whose tables may be others.
            return super().update(**values)
        rows = User._base_manager.all()
        with transaction.atomic():
            pks = list(self.values_list("pk", flat=True))
            before = rows.select_for_update().in_bulk(pks)
            count = super().update(**values)
            after = rows.in_bulk(pks)
            for pk in sorted(before):
                pairs = {name: (getattr(before[pk], name), getattr(after[pk], name)) for name in told}
                if changes := {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}:
                    user_changed_record(after[pk], changes)
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Any, *args: Any, **options: Any) -> list[User]:
        if self.model is not User:
            return super().bulk_create(objs, *args, **options)
        if options.get("ignore_conflicts") or options.get("update_conflicts"):
            raise NotSupportedError("which users were made would not be known, so it could not be recorded")
        with transaction.atomic():
            made = super().bulk_create(objs, *args, **options)
            for user in made:
                user_made_record(user)
        return made


# Of the manager's class: the managers of relations, like group.user_set, are made from it.
UserManager._queryset_class = RecordedUsers  # type: ignore[attr-defined]
