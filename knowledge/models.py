from uuid import uuid4

from django.db import models


class Document(models.Model):
    class Kind(models.TextChoices):
        PACK = "pack", "Starter pack"
        INGESTED = "ingested", "Ingested file"

    source = models.CharField(max_length=500, unique=True)
    title = models.CharField(max_length=300)
    edition = models.CharField(max_length=200, blank=True)
    jurisdiction = models.CharField(max_length=200, blank=True)
    effective_from = models.DateField(null=True, blank=True)
    effective_to = models.DateField(null=True, blank=True)
    licence = models.CharField(max_length=500, blank=True)
    content_hash = models.CharField(max_length=64, help_text="SHA-256 of what was read, in hexadecimal")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.INGESTED)
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["source"]

    def __str__(self) -> str:
        return self.title


class Passage(models.Model):
    """A note of the pack, or a piece of an ingested document.

    The phrase fields hold lists of strings. `asked_as` are questions this passage answers and `not_answered` are
    questions that come near and that nothing here answers; both are empty for ingested documents.
    """

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="passages")
    key = models.CharField(max_length=200)
    position = models.PositiveIntegerField(default=0)
    heading = models.CharField(max_length=1000, blank=True, help_text='Path, as in "Stairs > Handrails"')
    title = models.CharField(max_length=300, blank=True)
    reference = models.CharField(max_length=500, blank=True)
    text = models.TextField()
    edition = models.CharField(max_length=200, blank=True)
    jurisdiction = models.CharField(max_length=200, blank=True)
    confidence = models.CharField(max_length=40, blank=True)
    caution = models.TextField(blank=True)
    clauses = models.JSONField(default=list, blank=True)
    subjects = models.JSONField(default=list, blank=True)
    aspects = models.JSONField(default=list, blank=True)
    asked_as = models.JSONField(default=list, blank=True)
    not_answered = models.JSONField(default=list, blank=True)
    figures = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["document_id", "position"]
        constraints = [
            models.UniqueConstraint(fields=["document", "key"], name="knowledge_passage_key_unique_in_document"),
        ]

    def __str__(self) -> str:
        return self.title or self.heading or self.key


class IndexVersion(models.Model):
    """The one row that says which state of the passages an index must hold.

    `stamp` tells two databases, or a restored backup, apart that happen to have reached the same number.
    """

    number = models.PositiveBigIntegerField(default=0)
    stamp = models.UUIDField(default=uuid4)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="knowledge_index_version_one_row")]

    def __str__(self) -> str:
        return f"{self.number}-{self.stamp.hex[:8]}"
