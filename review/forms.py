"""The filters of the searches, for the pages and the API alike: one parser, one set of sentences."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from audit.actions import KINDS
from chat.guard import CODES
from flags.registry import REGISTRY
from onesource.errors import BadInput
from review.filters import Arm, EventFilters, TurnFilters
from review.reasons import EXPECTED, MOST, reason_check
from review.selectors import subject_ref_by

OUTCOMES = ("answered", "degraded", "declined", "refused", "aborted")
ENDPOINTS = ("chat", "enhanced")
FORMATS = {
    "csv": "CSV, for a spreadsheet: facts only",
    "zip": "ZIP, which verifies offline: facts, events and proofs",
}
ZIP_ONLY = "Texts go into a ZIP only."
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
TIME_EXPECTED = "Expected a time of the years 2000 to 2099 as in 2026-11-23T09:30 or 2026-11-23T09:30:00Z (UTC)."
UUID_EXPECTED = "Expected an id of 32 hexadecimal digits and hyphens, as in 0f8fad5b-d9cb-469f-a165-70867728950e."


def _time(label: str, about: str) -> forms.DateTimeField:
    return forms.DateTimeField(
        label=f"{label} (UTC)",
        required=False,
        help_text=about,
        error_messages={"invalid": TIME_EXPECTED},
        widget=forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"}),
    )


def _text(label: str, about: str, *, most: int = 200, **more: str) -> forms.CharField:
    attrs = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "none", **more}
    return forms.CharField(
        label=label, required=False, help_text=about, max_length=most, widget=forms.TextInput(attrs=attrs)
    )


def _id(label: str, about: str) -> forms.UUIDField:
    return forms.UUIDField(
        label=label,
        required=False,
        help_text=about,
        error_messages={"invalid": UUID_EXPECTED},
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


def _choice(label: str, about: str, choices: Mapping[str, str]) -> forms.ChoiceField:
    expected = (
        f"Expected one of {', '.join(choices)}."
        if choices and len(choices) < 10
        else f"Expected {about[0].lower()}{about[1:]}"
    )
    return forms.ChoiceField(
        label=label,
        required=False,
        help_text=about,
        choices=[("", "any"), *choices.items()],
        error_messages={"invalid_choice": expected},
    )


class SearchForm(forms.Form):
    # Names in an address that are no names in Python.
    NAMES = {"since": "from", "until": "to"}

    def add_prefix(self, field_name: str) -> str:
        return self.NAMES.get(field_name, field_name)

    def names(self) -> list[str]:
        """Of the fields, as they stand in an address."""
        return [self.add_prefix(name) for name in self.fields]

    def clean(self) -> dict[str, Any]:
        for name in ("since", "until"):
            given = self.cleaned_data.get(name)
            if given and not EARLIEST <= given < LATEST:
                self.add_error(name, TIME_EXPECTED)
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        if since and until and since >= until:
            self.add_error("until", "Expected a time after “from”.")
        return self.cleaned_data

    def check(self) -> None:
        """Raises BadInput with the sentences of all fields."""
        if not self.is_valid():
            errors = {self.add_prefix(name): [str(text) for text in texts] for name, texts in self.errors.items()}
            raise BadInput("Correct the filters named in errors.", code="bad_filter", errors=errors)

    def subject_ref(self, name: str) -> str:
        given = self.cleaned_data[name].strip()
        if not given:
            return ""
        found = subject_ref_by(given)
        if found is None:
            raise ValidationError(
                "Expected a user name, or a pseudonym of 32 hexadecimal digits. Nobody of this name has left a record, "
                "or it was erased."
            )
        return found


class TurnSearchForm(SearchForm):
    since = _time("From", "Turns recorded at this time or later.")
    until = _time("To", "Turns recorded before this time.")
    user = _text("User", "A user name, or the pseudonym that the results show.", most=150)
    session = _id("Session", "The id of a conversation.")
    turn = _id("Turn", "The id of one turn.")
    outcome = _choice("Outcome", "How the turn ended.", {name: name for name in OUTCOMES})
    endpoint = _choice("Endpoint", "Where it was asked.", {name: name for name in ENDPOINTS})
    repair_code = _choice("Repair code", "A repair code in capitals, as in TRUNCATED.", {name: name for name in CODES})
    arm = _text("Flag arm", "KEY=on or KEY=off: who was on this side of a cohort flag.", list="arm-values")
    model = _text("Model", "The model's name in full.")
    reference = _text("Reference cited", "As in the answer, for example D3D14 or AS 1428.1.")
    degraded = _choice("Degraded", "The provider failed and the knowledge base answered.", {"yes": "yes", "no": "no"})
    repaired = _choice("Repaired", "The guard changed the reply.", {"yes": "yes", "no": "no"})

    # Not behind "More filters".
    FIRST = ("since", "until", "user", "reference")

    def further(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in self.FIRST]

    def narrowed(self) -> bool:
        return any(self[field.name].value() for field in self.further())

    def arms(self) -> list[str]:
        """What the release's cohort flags can be looked for by."""
        return [str(Arm(key, on)) for key, entry in REGISTRY.items() if entry.type == "cohort" for on in (True, False)]

    def clean_user(self) -> str:
        return self.subject_ref("user")

    def clean_arm(self) -> Arm | None:
        given = self.cleaned_data["arm"].strip()
        try:
            return Arm.parse(given) if given else None
        except ValueError:
            raise ValidationError(f"Expected KEY=on or KEY=off, for example {self.arms()[0]}.") from None

    def filters(self) -> TurnFilters:
        """Of a valid form."""
        given = dict(self.cleaned_data)
        sides = {"": None, "yes": True, "no": False}
        given |= {name: sides[given[name]] for name in ("degraded", "repaired")}
        given["subject_ref"] = given.pop("user")
        return TurnFilters(**{name: given[name] for name in TurnFilters.__slots__})


class EventSearchForm(SearchForm):
    since = _time("From", "Events at this time or later.")
    until = _time("To", "Events before this time.")
    kind = _choice("Kind", "A kind of event, as in flag.changed.", {})
    actor = _text("Actor", "A user name, or the pseudonym that the results show.", most=150)
    stream = _text("Stream", "As in the results, for example flags or session:… .", most=80)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kinds = sorted((kind.name, f"{kind.label} ({kind.name})") for kind in KINDS.values())
        self.fields["kind"].choices = [("", "any"), *kinds]  # type: ignore[attr-defined]

    def clean_actor(self) -> str:
        return self.subject_ref("actor")

    def filters(self) -> EventFilters:
        """Of a valid form."""
        given = dict(self.cleaned_data)
        given["actor_ref"] = given.pop("actor")
        return EventFilters(**given)


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label="Reason",
        help_text=EXPECTED + " It stays on record under your pseudonym.",
        error_messages={"required": EXPECTED},
        widget=forms.Textarea(attrs={"rows": 2, "maxlength": MOST}),
    )

    def clean_reason(self) -> str:
        try:
            return reason_check(self.cleaned_data["reason"])
        except BadInput as error:
            raise ValidationError(error.detail) from None


class ExportForm(ReasonForm):
    format = forms.ChoiceField(
        label="Format",
        choices=list(FORMATS.items()),
        error_messages={"invalid_choice": f"Expected one of {', '.join(FORMATS)}."},
    )
    content = forms.BooleanField(
        label="With questions and answers, as far as they are held (ZIP only)",
        required=False,
        help_text="On record like a reveal of each.",
    )

    def __init__(self, *args: Any, may_reveal: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not may_reveal:
            del self.fields["content"]

    def clean(self) -> dict[str, Any]:
        if self.cleaned_data.get("content") and self.cleaned_data.get("format") == "csv":
            self.add_error("content", ZIP_ONLY)
        return self.cleaned_data
