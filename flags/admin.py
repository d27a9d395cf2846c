from typing import Any

from django import forms
from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html
from waffle import get_waffle_sample_model

from audit.services import subject_ref_of
from flags import snapshot
from flags.changes import acting
from flags.models import Flag, Setting, Switch
from flags.registry import REGISTRY, BadValue, UnknownFlag
from flags.services import change_check

admin.site.site_header = admin.site.site_title = "ONESource"
admin.site.index_title = "Administration"

for model in (Flag, Switch, get_waffle_sample_model()):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class ReasonForm(forms.ModelForm):  # type: ignore[type-arg]
    reason = forms.CharField(
        required=False,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Goes on record with the change. Required for kill switches.",
    )

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        try:
            change_check(self.instance.change_key(), self.cleaned_data.get("reason", ""))
        except BadValue as error:
            raise forms.ValidationError(str(error)) from None
        except UnknownFlag:
            raise forms.ValidationError("This flag is not registered in the code; nothing reads it.") from None
        return cleaned


class RecordedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows come from the registry: none is added or deleted by hand."""

    form = ReasonForm
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # Around the whole view: cohort members are saved after save_model, and belong to the same change.
        if request.method != "POST":
            return super().changeform_view(request, *args, **kwargs)
        reason = request.POST.get("reason", "").strip()
        with acting(actor_ref=subject_ref_of(request.user), reason=reason, source="admin"):
            return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:  # type: ignore[type-arg]
        obj.save()

    @admin.display(description="kind")
    def kind(self, obj: Any) -> str:
        entry = REGISTRY.get(obj.change_key())
        return entry.kind if entry else "not registered"

    @admin.display(description="owner")
    def owner(self, obj: Any) -> str:
        entry = REGISTRY.get(obj.change_key())
        return entry.owner if entry else ""

    @admin.display(description="in force")
    def in_force(self, obj: Any) -> str:
        key = obj.change_key()
        if key in snapshot.pins():
            return format_html("{} <strong>PINNED by {}</strong>", snapshot.pins()[key], key)
        entry = REGISTRY.get(key)
        if entry is None:
            return ""
        if entry.type == "cohort" and obj.everyone is None:
            return f"{obj.rollout_bp / 100:g} % and the listed"
        return str(snapshot.current().evaluate(None)[key])

    @admin.display(description="description")
    def description(self, obj: Any) -> str:
        entry = REGISTRY.get(obj.change_key())
        return entry.description if entry else ""


@admin.register(Flag)
class FlagAdmin(RecordedAdmin):
    list_display = ("name", "in_force", "kind", "owner", "description", "modified")
    fields = ("name", "description", "in_force", "everyone", "rollout_bp", "users", "groups", "salt", "note", "reason")
    readonly_fields = ("name", "description", "in_force")
    raw_id_fields = ("users",)
    filter_horizontal = ("groups",)


@admin.register(Switch)
class SwitchAdmin(RecordedAdmin):
    list_display = ("name", "in_force", "kind", "owner", "description", "modified")
    fields = ("name", "description", "in_force", "active", "note", "reason")
    readonly_fields = ("name", "description", "in_force")


@admin.register(Setting)
class SettingAdmin(RecordedAdmin):
    list_display = ("key", "in_force", "kind", "owner", "description", "modified")
    fields = ("key", "description", "in_force", "value_json", "reason")
    readonly_fields = ("key", "description", "in_force")


# Registers its own models.
from flags import admin_rollouts  # noqa: E402, F401
