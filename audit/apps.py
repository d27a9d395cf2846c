from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        from audit import accounts, bulk, content, edits, signals  # noqa: F401  (registering is the import's purpose)

        # Keys that do not parse stop the boot: the first question would be lost to them.
        content.keyring()
        content.signing_key()
