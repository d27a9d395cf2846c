from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"

    def ready(self) -> None:
        from chat import checks, tokens  # noqa: F401  (registering is the import's purpose)
