"""What is of no use after its time: expired tokens and sign-ins, old failures, old Idempotency-Keys."""

from datetime import timedelta
from importlib import import_module

from django.conf import settings
from django.utils import timezone
from knox.models import AuthToken

from chat.idempotency import claims_purge
from chat.models import TurnFailure

# Longer than any rollout looks back.
FAILURES_KEPT = timedelta(days=30)
BATCH = 500


def leftovers_sweep() -> None:
    claims_purge()
    failures_purge()
    AuthToken.objects.filter(expiry__lt=timezone.now()).delete()
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


def failures_purge() -> int:
    """Some at a time; returns how many they were."""
    old = TurnFailure.objects.filter(at__lt=timezone.now() - FAILURES_KEPT)
    purged = 0
    while pks := list(old.order_by("at").values_list("pk", flat=True)[:BATCH]):
        purged += TurnFailure.objects.filter(pk__in=pks).delete()[0]
    return purged
