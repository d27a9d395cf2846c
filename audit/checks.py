from typing import Any

from django.core.checks import CheckMessage, Error, register

from audit import content
from onesource.env import EnvError


@register
def content_keys_check(**kwargs: Any) -> list[CheckMessage]:
    try:
        content.keyring()
    except EnvError as error:
        return [Error(str(error), hint="Make one with: openssl rand -base64 32", id="audit.E001")]
    return []
