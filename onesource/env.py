"""Typed readers for environment variables.

A value that does not parse stops the boot with an EnvError that names the variable, what was expected, and never
the value of a secret. An empty variable counts as absent, so that `VAR=` in a compose file means the default.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})


class EnvError(ImproperlyConfigured):
    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"Environment variable {name}: {problem}")
        self.name = name


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def boolean(name: str, default: bool) -> bool:
    return parse_boolean(name, text(name)) if text(name) else default


def parse_boolean(name: str, value: str) -> bool:
    lowered = value.strip().lower()
    if lowered in TRUE:
        return True
    if lowered in FALSE:
        return False
    raise EnvError(name, f"expected one of 1, 0, true, false, yes, no, on, off; got {value!r}")


def integer(name: str, default: int, *, minimum: int, maximum: int) -> int:
    return parse_integer(name, text(name), minimum, maximum) if text(name) else default


def parse_integer(name: str, value: str, minimum: float, maximum: float) -> int:
    try:
        number = int(value)
    except ValueError:
        raise EnvError(name, f"expected a whole number; got {value!r}") from None
    if not minimum <= number <= maximum:
        raise EnvError(name, f"expected {minimum:g} to {maximum:g}; got {number}")
    return number


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = text(name, default)
    if value not in choices:
        raise EnvError(name, f"expected one of {', '.join(choices)}; got {value!r}")
    return value


def listing(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def url(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """The URL, checked for its scheme only: what stands behind it is checked by the part that connects."""
    value = text(name, default)
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  (reading it is what checks it)
    except ValueError:
        raise EnvError(name, "is not a valid URL") from None
    if value and parts.scheme not in schemes:
        raise EnvError(name, f"expected a URL that starts with {' or '.join(s + '://' for s in schemes)}")
    return value


def hosts(name: str, netloc: str, default_port: int) -> tuple[tuple[str, int], ...]:
    """Hosts and ports of the part `user:password@host:port,host:port` of a URL, which urlsplit cannot take apart."""
    found = []
    for part in netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{part.strip()}")
            host, port = one.hostname, one.port or default_port
        except ValueError:
            host = None
        if not host:
            raise EnvError(name, "expected hosts like host:port, separated by commas")
        found.append((host, port))
    return tuple(found)


def mongo_check(name: str, value: str) -> None:
    """Raises EnvError unless `value` is empty or names hosts and a database as MongoDB's connection strings do."""
    if not value:
        return
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in ("mongodb", "mongodb+srv"):
        raise EnvError(name, "expected a URL that starts with mongodb:// or mongodb+srv://")
    netloc, _, path = rest.partition("/")
    hosts(name, netloc.partition("?")[0], 27017)
    database = path.partition("?")[0]
    if not re.fullmatch(r"[\w-]{0,63}", database):
        raise EnvError(name, "expected a database of letters, digits, - and _ after the hosts")


def networks(name: str, default: str) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(part) for part in listing(name, default)]
    except ValueError:
        raise EnvError(name, "expected networks like 10.0.0.0/8 or ::1/128, separated by commas") from None


def secret(name: str) -> str:
    """The secret in NAME, or in the file that NAME_FILE names (trailing newline removed); "" when neither is set."""
    path = text(f"{name}_FILE")
    if path and text(name):
        raise EnvError(name, f"set either {name} or {name}_FILE, not both")
    if not path:
        return text(name)
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvError(f"{name}_FILE", f"the file cannot be read ({type(error).__name__})") from None


def secret_or_made(name: str, directory: Path, make: Callable[[], str], *, required: bool) -> str:
    """The secret; in development one made once and kept under `directory` with mode 0600.

    Two workers that boot together must agree, so the file is created exclusively and the loser reads the winner's.
    """
    value = secret(name)
    if value:
        return value
    if required:
        raise EnvError(name, f"is required in production (or give {name}_FILE, the path of a file that holds it)")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / name.lower()
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(make(), encoding="ascii")
        with suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
    return path.read_text(encoding="ascii").strip()
