from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        # Registering is the import's purpose.
        from audit import accounts, bulk, checks, content, edits, signals  # noqa: F401
        from audit.partitions import partitions_prepare
        from audit.services import triggers_restore
        from audit.signing import verifiers

        # Keys that do not parse stop the boot: the first question would be lost to them.
        content.keyring()
        # A verification key would be missed only when somebody verifies.
        verifiers()
        # After each migration of any app: SQLite's remake of a table drops its triggers.
        post_migrate.connect(triggers_restore, sender=self)
        post_migrate.connect(partitions_prepare, sender=self)
