from django.apps import AppConfig


class OnesourceConfig(AppConfig):
    name = "onesource"

    def ready(self) -> None:
        from onesource import checks  # noqa: F401  (registering is the import's purpose)
