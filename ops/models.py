from django.db import models
from django.db.models.functions import Now


class Operations(models.Model):
    """Carries the operators' permission; it has no table."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [("operate", "Can see metrics and the operations dashboard")]


class WorkerLease(models.Model):
    """Who leads the background workers, where the database has no advisory locks."""

    name = models.CharField(max_length=80, primary_key=True)
    holder = models.CharField(max_length=80, blank=True)
    # The database's clock throughout: those of two machines may differ by more than the lease.
    until = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "ops_worker_lease"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} {self.holder}"
