"""Sign-ins are events too: the trail shows who could have done what."""

from typing import Any

from django.contrib.auth import signals
from django.dispatch import receiver

from audit import actions
from audit.services import event_record, identifier_hash, subject_ref_of

STREAM = "auth"


@receiver(signals.user_logged_in)
def login_record(sender: object, user: Any, **kwargs: Any) -> None:
    event_record(kind=actions.LOGIN_SUCCEEDED, stream=STREAM, actor_ref=subject_ref_of(user), facts={})


@receiver(signals.user_logged_out)
def logout_record(sender: object, user: Any, **kwargs: Any) -> None:
    if user is not None:
        event_record(kind=actions.LOGGED_OUT, stream=STREAM, actor_ref=subject_ref_of(user), facts={})


@receiver(signals.user_login_failed)
def login_failed_record(sender: object, credentials: dict[str, Any], **kwargs: Any) -> None:
    name = str(credentials.get("username", ""))
    facts = {"identifier_hash": identifier_hash("login", name.encode("utf-8", "replace"))}
    event_record(kind=actions.LOGIN_FAILED, stream=STREAM, actor_ref="", facts=facts)
