import re
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, register

from flags import snapshot
from flags.registry import REGISTRY

APPS = ("audit", "chat", "flags", "knowledge", "onesource", "ops")
ASKED = re.compile(r"""(?<!\benv)\.(?:boolean|number|choice)\(\s*["']([A-Z][A-Z0-9_]+)["']""")
# Read when a process starts, before there is a database to ask.
AT_BOOT = frozenset({"REDIS_SOCKET_TIMEOUT_MS", "REDIS_CONNECT_TIMEOUT_MS"})


@register
def store_is_configured(**kwargs: Any) -> list[CheckMessage]:
    if snapshot.pins().get("CONV_STORE_PRIMARY") == "redis" and not settings.REDIS_URL:
        return [
            Error(
                "CONV_STORE_PRIMARY is pinned to redis, and REDIS_URL is not set.",
                hint="Set REDIS_URL, or CONV_STORE_PRIMARY=database.",
                id="flags.E001",
            )
        ]
    return []


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
        for key in sorted(REGISTRY.keys() - _asked() - AT_BOOT)
    ]
