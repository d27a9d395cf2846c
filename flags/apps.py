from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class FlagsConfig(AppConfig):
    name = "flags"
    verbose_name = "Flags and settings"

    def ready(self) -> None:
        from flags import checks, registry, signals, snapshot  # noqa: F401  (registering is the import's purpose)
        from flags.selectors import epoch_read, rules_read

        snapshot.configure(read_epoch=epoch_read, read_rules=rules_read, pins=registry.pins_read())
        post_migrate.connect(_rows_ensure, sender=self)


def _rows_ensure(sender: AppConfig, using: str, **kwargs: Any) -> None:
    from flags.services import rows_ensure

    rows_ensure()
