"""Guarded rollouts and change requests in the admin: read by who may view flags, acted on by who may change them.

Every action is a call of the services that the commands use, with a reason that goes on record.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from audit.selectors import person_by, person_of
from audit.services import subject_ref_of
from flags import change_services, rollout_services, rollouts
from flags.guarded import ChangeRequest, GuardedRollout
from flags.registry import REGISTRY, BadValue, UnknownFlag, registered
from flags.rollout_chart import looks_chart
from flags.snapshot import pins

SOURCE = "admin"
# A look comes every ten seconds; after so long nobody is looking.
UNWATCHED = timedelta(seconds=60)
UNWATCHED_TEXT = "Nobody looks at this rollout, so it moves neither up nor back: is `manage.py worker` running?"

Act = Callable[[int, str, str], object]


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500, widget=forms.Textarea(attrs={"rows": 2, "cols": 80}), help_text="Goes on record."
    )


class StartForm(ReasonForm):
    key = forms.ChoiceField(label="Flag")
    hold_minutes = forms.IntegerField(
        initial=rollouts.HOLD_SECONDS // 60, min_value=1, max_value=7 * 24 * 60, help_text="For each of the stages."
    )
    field_order = ["key", "hold_minutes", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keys = [key for key, entry in REGISTRY.items() if entry.type == "cohort" and key not in pins()]
        self.fields["key"] = forms.ChoiceField(label="Flag", choices=[(key, key) for key in keys])
        self.order_fields(self.field_order)

    def act(self, actor_ref: str) -> GuardedRollout:
        return rollout_services.rollout_start(
            key=self.cleaned_data["key"],
            actor_ref=actor_ref,
            reason=self.cleaned_data["reason"],
            source=SOURCE,
            hold_seconds=60 * self.cleaned_data["hold_minutes"],
        )


class AskForm(ReasonForm):
    KINDS: ClassVar = [
        ("value", "the value, for everyone"),
        ("rollout_bp", "the share of a cohort flag, in percent"),
        ("guarded", "start a guarded rollout, with a hold in minutes"),
    ]
    key = forms.ChoiceField(label="Flag or setting", choices=[(key, key) for key in REGISTRY])
    kind = forms.ChoiceField(label="Change", choices=KINDS)
    value = forms.CharField(label="To", max_length=100, help_text="on, off, a number, a choice, or a share like 12.5")
    scheduled_for = forms.DateTimeField(
        required=False, help_text="UTC, as 2026-12-31 18:00. Empty: as soon as it is approved."
    )
    emergency = forms.BooleanField(required=False, help_text="Make it at once, without approvals. That goes on record.")
    field_order = ["key", "kind", "value", "scheduled_for", "emergency", "reason"]

    def change(self) -> dict[str, Any]:
        """Raises BadValue."""
        kind, text = self.cleaned_data["kind"], self.cleaned_data["value"]
        if kind == "value":
            return {kind: registered(self.cleaned_data["key"]).parse(text)}
        factor = {"rollout_bp": 100, "guarded": 60}[kind]
        try:
            return {kind: round(float(text.removesuffix("%")) * factor)}
        except (ValueError, OverflowError):
            raise BadValue("expected a number") from None

    def act(self, actor_ref: str) -> ChangeRequest:
        return change_services.change_request(
            key=self.cleaned_data["key"],
            change=self.change(),
            actor_ref=actor_ref,
            reason=self.cleaned_data["reason"],
            scheduled_for=self.cleaned_data["scheduled_for"],
            emergency=self.cleaned_data["emergency"],
        )


class ServiceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows are made and moved by services only; nothing here writes a model."""

    actions = None
    form_class: type[StartForm | AskForm]
    add_title = ""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("flags.view_flag") or self.has_change_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("flags.change_flag")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def acts(self, obj: Any) -> dict[str, tuple[str, Act]]:
        """What can be done with the object now: name → (label, service)."""
        raise NotImplementedError

    def shown(self, obj: Any) -> dict[str, Any]:
        """For the template: facts, and what else the object has to show."""
        raise NotImplementedError

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.form_class(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                made = form.act(subject_ref_of(request.user))
            except (BadValue, UnknownFlag) as error:
                form.add_error(None, _text(error))
            else:
                messages.success(request, str(made))
                return HttpResponseRedirect(self._path(made))
        return self._page(request, self.add_title, form=form)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            messages.error(request, "There is no such row.")
            return HttpResponseRedirect(reverse(f"admin:flags_{self.opts.model_name}_changelist"))
        acts = self.acts(obj) if self.has_change_permission(request) else {}
        form = ReasonForm(request.POST or None)
        if request.method == "POST":
            if not self.has_change_permission(request):
                raise PermissionDenied
            if form.is_valid() and self._acted(request, obj, acts, form):
                return HttpResponseRedirect(self._path(obj))
        buttons = [(name, label) for name, (label, _) in acts.items()]
        return self._page(request, str(obj), form=form, object=obj, buttons=buttons, **self.shown(obj))

    def _acted(self, request: HttpRequest, obj: Any, acts: dict[str, tuple[str, Act]], form: ReasonForm) -> bool:
        label, act = acts.get(request.POST.get("act", ""), ("", None))
        if act is None:
            form.add_error(None, "This can no longer be done; somebody else was faster.")
            return False
        try:
            act(obj.pk, subject_ref_of(request.user), form.cleaned_data["reason"])
        except (BadValue, UnknownFlag) as error:
            form.add_error(None, _text(error))
            return False
        messages.success(request, f"{label}: done and on record.")
        return True

    def _path(self, obj: Any) -> str:
        return reverse(f"admin:flags_{self.opts.model_name}_change", args=[obj.pk])

    def _page(self, request: HttpRequest, title: str, **context: Any) -> TemplateResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, **context}
        return TemplateResponse(request, "admin/flags/guarded.html", context)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        raise PermissionDenied

    def history_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        # Nothing is written by the admin, so its own log has nothing; the audit trail does.
        raise PermissionDenied


def _text(error: Exception) -> str:
    return "This flag is not registered in the code." if isinstance(error, UnknownFlag) else str(error)


@admin.register(GuardedRollout)
class GuardedRolloutAdmin(ServiceAdmin):
    list_display = ("key", "state", "share", "canary", "control", "started_at", "needs")
    list_display_links = ("key", "state")
    ordering = ("-started_at",)
    form_class = StartForm
    add_title = "Start a guarded rollout"

    @admin.display(description="share")
    def share(self, obj: GuardedRollout) -> str:
        return f"{obj.stage_bp / 100:g} %"

    @admin.display(description="errors of the canary, this stage")
    def canary(self, obj: GuardedRollout) -> str:
        return str(obj.totals.canary)

    @admin.display(description="errors of the control, this stage")
    def control(self, obj: GuardedRollout) -> str:
        return str(obj.totals.control)

    @admin.display(description="needs")
    def needs(self, obj: GuardedRollout) -> str:
        if obj.is_locking:
            return "acknowledgement: the flag is locked until then"
        return "a worker" if _unwatched(obj) else ""

    def acts(self, obj: GuardedRollout) -> dict[str, tuple[str, Act]]:
        if obj.state == GuardedRollout.State.RUNNING:
            return {"cancel": ("Cancel and go back to 0 %", _cancel)}
        return {"acknowledge": ("Acknowledge the trip and unlock the flag", _acknowledge)} if obj.is_locking else {}

    def shown(self, obj: GuardedRollout) -> dict[str, Any]:
        facts = [
            ("State", obj.get_state_display()),
            ("Share", self.share(obj)),
            ("Held with traffic", f"{obj.held_seconds:.0f} of {obj.hold_seconds} s"),
            ("Started", f"{obj.started_at:%Y-%m-%d %H:%M:%S} by {person_of(obj.started_by)}: {obj.reason}"),
        ]
        if obj.ended_at:
            facts.append(("Ended", f"{obj.ended_at:%Y-%m-%d %H:%M:%S}: {obj.end_reason}"))
        if obj.acknowledged_at:
            by = f"{person_of(obj.acknowledged_by)}: {obj.acknowledged_reason}"
            facts.append(("Acknowledged", f"{obj.acknowledged_at:%Y-%m-%d %H:%M:%S} by {by}"))
        last = obj.looks[-1:]
        arms = [
            (name, _arm(rollouts.Arm(*last[0][name])) if last else None, _arm(getattr(obj.totals, name)))
            for name in ("canary", "control")
        ]
        return {
            "facts": facts,
            "arms": arms,
            "chart": looks_chart(obj.looks),
            "looks": obj.looks[:-11:-1],
            "warning": UNWATCHED_TEXT if _unwatched(obj) else "",
        }


def _unwatched(rollout: GuardedRollout) -> bool:
    running = rollout.state == GuardedRollout.State.RUNNING
    return running and timezone.now() - (rollout.looked_at or rollout.started_at) > UNWATCHED


def _arm(arm: rollouts.Arm) -> dict[str, Any]:
    low, high = arm.bounds
    share = f"{100 * arm.errors / arm.turns:.2f} %" if arm.turns else "no turns"
    return {
        "turns": arm.turns,
        "errors": arm.errors,
        "share": share,
        "interval": f"{100 * low:.2f} to {100 * high:.2f} %",
    }


def _cancel(pk: int, actor_ref: str, reason: str) -> None:
    rollout_services.rollout_cancel(rollout_id=pk, actor_ref=actor_ref, reason=reason, source=SOURCE)


def _acknowledge(pk: int, actor_ref: str, reason: str) -> None:
    rollout_services.rollout_acknowledge(rollout_id=pk, actor_ref=actor_ref, reason=reason, source=SOURCE)


@admin.register(ChangeRequest)
class ChangeRequestAdmin(ServiceAdmin):
    list_display = ("key", "told", "status", "requested", "scheduled_for", "emergency")
    list_display_links = ("key", "told")
    list_filter = ("status",)
    ordering = ("-requested_at",)
    form_class = AskForm
    add_title = "Ask for a change"

    @admin.display(description="requested")
    def requested(self, obj: ChangeRequest) -> str:
        return f"{obj.requested_at:%Y-%m-%d %H:%M} by {getattr(obj, 'asker', None) or obj.requested_by}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ChangeRequest]:
        rows: QuerySet[ChangeRequest] = super().get_queryset(request)
        return rows.annotate(asker=person_by("requested_by"))

    def acts(self, obj: ChangeRequest) -> dict[str, tuple[str, Act]]:
        if obj.status not in ChangeRequest.OPEN:
            return {}
        approve: dict[str, tuple[str, Act]] = {"approve": ("Approve", _on_request(change_services.change_approve))}
        return {
            **(approve if obj.status == ChangeRequest.Status.PENDING else {}),
            "reject": ("Reject", _on_request(change_services.change_reject)),
            "cancel": ("Withdraw", _on_request(change_services.change_cancel)),
            "apply": ("Emergency: make it now", _on_request(change_services.change_apply)),
        }

    def shown(self, obj: ChangeRequest) -> dict[str, Any]:
        facts = [
            ("Flag", obj.key),
            ("Change", obj.told),
            ("Status", obj.get_status_display()),
            (
                "Asked against",
                ", ".join(f"{name} {value}" for name, value in obj.asked_state.items() if name != "salt"),
            ),
            ("Requested", f"{self.requested(obj)}: {obj.reason}"),
        ]
        if obj.scheduled_for:
            facts.append(("Scheduled for", f"{obj.scheduled_for:%Y-%m-%d %H:%M} UTC"))
        facts += [("Approved", f"{one['at']} by {person_of(one['by'])}: {one['reason']}") for one in obj.approvals]
        if obj.decided_at:
            bypassed = ", approvals bypassed" if obj.emergency else ""
            by = f"{person_of(obj.decided_by) or 'the worker'}: {obj.decision_reason}{bypassed}"
            facts.append(("Decided", f"{obj.decided_at:%Y-%m-%d %H:%M:%S} by {by}"))
        return {"facts": facts}


def _state(state: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in state.items() if name != "salt")


def _on_request(service: Callable[..., object]) -> Act:
    def act(pk: int, actor_ref: str, reason: str) -> None:
        service(request_id=pk, actor_ref=actor_ref, reason=reason)

    return act
