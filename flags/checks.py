import re
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, register

from flags import snapshot
from flags.registry import REGISTRY

STORE_URLS = {"redis": "REDIS_URL", "mongo": "MONGO_URL"}
APPS = ("audit", "chat", "flags", "knowledge", "onesource", "ops", "review")
ASKED = re.compile(r"""(?<!\benv)\.(?:boolean|number|choice)\(\s*["']([A-Z][A-Z0-9_]+)["']""")


@register
def store_is_configured(**kwargs: Any) -> list[CheckMessage]:
    store = str(snapshot.pins().get("CONV_STORE_PRIMARY", ""))
    variable = STORE_URLS.get(store, "")
    if not variable or getattr(settings, variable):
        return []
    return [
        Error(
            f"CONV_STORE_PRIMARY is pinned to {store}, and {variable} is not set.",
            hint=f"Set {variable}, or CONV_STORE_PRIMARY=database.",
            id="flags.E001",
        )
    ]


def _asked() -> set[str]:
    files = (path for app in APPS for path in (settings.BASE_DIR / app).rglob("*.py"))
    return {key for path in files for key in ASKED.findall(path.read_text(encoding="utf-8"))}


@register
def asked_are_registered(**kwargs: Any) -> list[CheckMessage]:
    """What is not registered fails at its first use, which may be weeks away."""
    return [
        Error(f"The code asks for the flag {key}, which is not registered.", hint="flags/registry.py", id="flags.E002")
        for key in sorted(_asked() - REGISTRY.keys())
    ]


@register(deploy=True)
def registered_are_asked(**kwargs: Any) -> list[CheckMessage]:
    """A flag that nobody asks for misleads whoever changes it."""
    return [
        Info(f"No code asks for the registered flag {key}.", hint="Take it out when it is done with.", id="flags.I001")
        for key in sorted(REGISTRY.keys() - _asked())
        if not REGISTRY[key].boot
    ]
