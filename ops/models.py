from django.db import models


class Operations(models.Model):
    """Carries the operators' permission; it has no table."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [("operate", "Can see metrics and the operations dashboard")]
