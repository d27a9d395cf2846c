"""The row of numbers by which a question and a note are weighed. The names are the keys of `data/weights.json`."""

from knowledge.matching import CANDIDATES, NO_NOTE, Left, Matcher, Near, Phrase, Profile, top
from knowledge.reading import Reading

HARD_ASPECTS = frozenset({
    "cost", "colour", "diameter", "material", "load", "temperature", "brand", "licence", "penalty", "maintenance",
    "warranty", "thickness", "frequency", "retention", "depth",
})  # fmt: skip
HOUSE = frozenset({"house"})
SHARED = frozenset({"apartment", "class3", "class4", "highrise"})
COMMERCIAL = frozenset({"class5", "class6", "class7a", "class7b", "class8", "class9a", "class9b", "class9c", "school"})
NAMES = (
    "bias", "best", "second", "third", "mean", "state_fit", "letters", "contained", "negative", "letters_negative",
    "negative_wins", "cover", "cover_core", "miss_elsewhere", "miss_english", "miss_unknown", "miss_most",
    "refused_only", "subject", "aspect", "aspect_missing", "aspect_hard", "scope_clash", "scope_fit", "class_clash",
    "class_fit", "state_clash", "nz_clash", "foreign", "place_clash", "reference_fit", "reference_unfit",
    "feature_cover", "figure_fit", "asks", "short", "corrected", "lead", "beaten", "elsewhere_negative", "length",
    "nowhere", "nowhere_wins", "title", "odd", "subject_none", "things", "bayes", "bayes_behind", "things_missing",
    "aspect_odds", "target_odds", "target_fit", "target_missing", "target_hard", "target_miss", "target_none",
)  # fmt: skip
Row = dict[str, float]


# Log odds that a question is not answered, given that it names this aspect and the note never does; see fitting.py.
AspectOdds = dict[str, float]


def candidates(
    matcher: Matcher, reading: Reading, odds: AspectOdds, phrase: Phrase | None = None, without: int = -1
) -> dict[int, Row]:
    """Rows of the likeliest notes. `phrase` and `without` leave one labelled phrase out, for fitting."""
    near = matcher.near_notes(reading, without)
    nowhere = near.pop(NO_NOTE, Near())
    shares = {
        name: weight * matcher.idf.get(name, 1.0 if name[0] in "#^" else matcher.unseen)
        for name, weight in reading.features.items()
    }
    whole = sum(shares.values()) or 1.0
    rough = {
        index: _mean(entry.positives)
        + 0.4 * entry.letters
        + 0.5 * sum(share for name, share in shares.items() if name in matcher.profiles[index].features) / whole
        for index, entry in near.items()
    }
    chosen = list(top(rough, CANDIDATES))
    if holders := _holders(matcher, reading):
        # A clause or standard that is named decides: notes that do not hold it are not meant.
        chosen = sorted(holders & rough.keys(), key=lambda index: -rough[index])[:CANDIDATES] or chosen
    most_negative = max((max(near[i].negative, 0.8 * near[i].letters_negative) for i in near), default=0.0)
    rows: dict[int, Row] = {}
    for index in chosen:
        left = Left(matcher.profiles[index], phrase if phrase and phrase.note == index else None)
        row = _row(matcher, index, reading, near[index], left, odds)
        profile = matcher.profiles[index]
        row["nowhere"] = max(
            (
                max(cosine, 0.8 * letters) * matcher.turned_down(reading, number, profile)
                for cosine, letters, number in nowhere.refusals
            ),
            default=0.0,
        )
        row["nowhere_wins"] = max(0.0, row["nowhere"] - row["best"])
        row["elsewhere_negative"] = max(0.0, most_negative - row["best"])
        rows[index] = row
    most = max((row["bayes"] for row in rows.values()), default=0.0)
    for index, row in rows.items():
        row["bayes_behind"] = most - row["bayes"]
        others = [_mean(near[other].positives) for other in chosen if other != index]
        lead = _mean(near[index].positives) - max(others, default=0.0)
        row["lead"], row["beaten"] = max(0.0, lead), max(0.0, -lead)
    return rows


def _holders(matcher: Matcher, reading: Reading) -> set[int]:
    asked = {named.key for named in reading.references if named.kind not in {"part", "nz"}}
    return {index for key in asked for index in matcher.holders.get(key, ())}


def _mean(positives: list[float]) -> float:
    best = [*positives, 0.0, 0.0, 0.0][:3]
    return 0.6 * best[0] + 0.25 * best[1] + 0.15 * best[2]


def _row(matcher: Matcher, index: int, reading: Reading, near: Near, left: Left, odds: AspectOdds) -> Row:
    profile = matcher.profiles[index]
    row: Row = dict.fromkeys(NAMES, 0.0)
    first, second, third = [*near.positives, 0.0, 0.0, 0.0][:3]
    row.update(
        mean=sum(near.positives) / max(1, left.phrases()),
        bias=1.0, best=first, second=second, third=third, letters=near.letters, contained=near.contained,
        negative=near.negative, letters_negative=near.letters_negative,
        negative_wins=max(0.0, near.negative - first) + 0.5 * max(0.0, near.letters_negative - near.letters),
        asks=float(reading.asks), corrected=min(reading.corrected, 4) / 4,
        length=min(1.0, sum(reading.content.values()) / 20),
        short=float(sum(weight >= 1 for weight in reading.content.values()) <= 2),
    )  # fmt: skip
    _coverage(matcher, reading, left, row)
    _aspects(reading, left, odds, row)
    _scope(reading, left, profile, row)
    _places(reading, profile, row)
    _references(reading, profile, row)
    row["subject"] = max((_subject(subject, reading) for subject in profile.subjects), default=0.0)
    row["subject_none"] = float(row["subject"] == 0)
    row["bayes"] = _bayes(matcher, reading, left)
    row["title"] = _title(matcher, profile, reading)
    row["things_missing"] = min(
        3.0,
        sum(
            matcher.idf.get("=" + name, matcher.unseen) / matcher.unseen
            for name in reading.things
            if left.thing(name) <= 0 and reading.features.get("=" + name, 0.0) >= 1
        ),
    )
    row["things"] = min(1.0, sum(left.thing(name) > 0 for name in reading.things) / 4)
    if reading.figures:
        row["figure_fit"] = len(reading.figures & profile.figures) / len(reading.figures)
    return row


def _coverage(matcher: Matcher, reading: Reading, left: Left, row: Row) -> None:
    total = core = found = found_core = 0.0
    for stem, weight in reading.content.items():
        unknown = stem in reading.unknown
        rarity = matcher.unseen if unknown else matcher.idf.get(stem, matcher.unseen)
        share = weight * rarity
        total += share
        core += share if weight >= 1 else 0.0
        degree = _covered(stem, reading, left)
        found += share * degree
        found_core += share * degree if weight >= 1 else 0.0
        if degree >= 0.99 or weight < 1:
            continue
        missing = (1 - degree) * rarity
        if stem in reading.target_words:
            row["target_miss"] = min(2.0, row["target_miss"] + missing / matcher.unseen)
        row["miss_most"] = max(row["miss_most"], missing / matcher.unseen)
        if left.refused(stem):
            row["refused_only"] += missing / matcher.unseen
        if unknown:
            row["miss_unknown"] += missing / matcher.unseen
        elif stem in matcher.idf:
            row["miss_elsewhere"] += missing / matcher.unseen
        else:
            row["miss_english"] += missing / matcher.unseen
    for name in ("refused_only", "miss_unknown", "miss_elsewhere", "miss_english"):
        row[name] = min(row[name], 3.0)
    core_words = [stem for stem, weight in reading.content.items() if weight >= 1]
    odd = [
        stem
        for stem in core_words
        if stem not in matcher.told and not any(name[0] == "=" for name in reading.covers.get(stem, ()))
    ]
    row["odd"] = len(odd) / len(core_words) if core_words else 0.0
    row["cover"] = found / total if total else 0.0
    row["cover_core"] = found_core / core if core else 0.0
    total = found = 0.0
    for name, weight in reading.features.items():
        if name[0] in "=@!$":
            share = weight * matcher.idf.get(name, matcher.unseen)
            total += share
            found += share * min(1.0, left.feature(name) / 2)
    row["feature_cover"] = found / total if total else 0.0


def _covered(stem: str, reading: Reading, left: Left) -> float:
    """1 when the note itself uses the word, less when only its thing or aspect is there under another name."""
    if left.word(stem) > 0:
        return 1.0
    best = 0.0
    for name in reading.covers.get(stem, ()):
        if name[0] == "=" and left.thing(name[1:]) > 0:
            best = max(best, 0.9)
        elif name[0] == "@" and left.aspect(name[1:]) > 1:
            best = max(best, 0.6)
    return best


def _aspects(reading: Reading, left: Left, odds: AspectOdds, row: Row) -> None:
    if not reading.aspects:
        return
    fits = {name: min(1.0, left.aspect(name) / 3) for name in reading.aspects}
    row["aspect"] = sum(fits.values()) / len(fits)
    row["aspect_missing"] = min(2.0, sum(1 - fit for fit in fits.values()))
    asked = {name: min(1.0, (2 * left.target(name) + left.aspect(name)) / 6) for name in reading.target}
    missing = [name for name in reading.aspects if left.aspect(name) <= 0]
    row["aspect_odds"] = min(6.0, sum(odds.get(name, 0.0) for name in missing))
    row["target_odds"] = min(6.0, sum(odds.get(name, 0.0) for name in missing if name in reading.target))
    row["target_none"] = float(not asked)
    if asked:
        row["target_fit"] = sum(asked.values()) / len(asked)
        row["target_missing"] = min(2.0, sum(1 - fit for fit in asked.values()))
        row["target_hard"] = min(2.0, sum(1 - fit for name, fit in asked.items() if name in HARD_ASPECTS))
    row["aspect_hard"] = min(2.0, sum(1 - fit for name, fit in fits.items() if name in HARD_ASPECTS))


def _scope(reading: Reading, left: Left, profile: Profile, row: Row) -> None:
    """Houses, shared residential and other buildings are different volumes of the code."""
    asked = [group for group in (HOUSE, SHARED, COMMERCIAL) if reading.things & group]
    told = {group: sum(left.thing(name) for name in group) for group in (HOUSE, SHARED, COMMERCIAL)}
    if asked and any(told.values()):
        most = max(told.values())
        fit = max(told[group] for group in asked) / most
        row["scope_fit"], row["scope_clash"] = fit, max(0.0, 0.2 - fit) * 5
    if reading.classes and profile.classes:
        known = profile.classes | {name.rstrip("abc") for name in profile.classes}
        fit = sum(name in known or name.rstrip("abc") in profile.classes for name in reading.classes) / len(
            reading.classes
        )
        row["class_fit"], row["class_clash"] = fit, 1 - fit


def _places(reading: Reading, profile: Profile, row: Row) -> None:
    states = reading.places - {"AU", "XX"}
    row["foreign"] = float("XX" in reading.places)
    row["nz_clash"] = float(("NZ" in states) != (profile.state == "NZ"))
    if profile.state and profile.state != "NZ":
        row["state_fit"] = float(profile.state in states)
        row["state_clash"] = float(bool(states) and profile.state not in states)
    listed = {name for name in profile.places if name not in {"nsw", "victoria", "queensland"}}
    if len(listed) >= 4 and reading.place_names:
        row["place_clash"] = float(not reading.place_names & profile.places)


def _references(reading: Reading, profile: Profile, row: Row) -> None:
    asked = {named.key for named in reading.references if named.kind != "maybe"}
    if asked:
        fit = len(asked & profile.references) / len(asked)
        row["reference_fit"], row["reference_unfit"] = fit, 1 - fit


def _subject(subject: frozenset[str], reading: Reading) -> float:
    if not subject:
        return 0.0
    return sum(name in reading.features or (name[0] == "=" and name[1:] in reading.things) for name in subject) / len(
        subject
    )


def _title(matcher: Matcher, profile: Profile, reading: Reading) -> float:
    total = found = 0.0
    for name, weight in profile.title.items():
        share = weight * matcher.idf.get(name, matcher.unseen)
        total += share
        found += share if name in reading.features else 0.0
    return found / total if total else 0.0


def _bayes(matcher: Matcher, reading: Reading, left: Left) -> float:
    """Naive Bayes log likelihood ratio, a word outside every phrase saying nothing."""
    total = 0.0
    for name, weight in reading.features.items():
        background = matcher.background.get(name)
        if background is not None:
            total += min(1.0, weight) * left.likelihood(name, background)
    return total / 10
