# ruff: noqa: E501 (one topic a line)
"""The big drafts: thirty blocks, a long guide of prose, a long schedule of tables and code."""

from typing import Any

from tests.guard.corpus.draft import Draft, code, draft, md, note, ol, tbl, ul

# topic, clause, requirement, trap, evidence
TOPICS = [
    (
        "Footings",
        "H1D4",
        "Footings bear on natural ground or on engineered fill that has been tested in layers of not more than 150 mm.",
        "Rain between excavation and pour softens the base, and nobody writes it down.",
        "site classification to AS 2870, photos of the base, the engineer's inspection record",
    ),
    (
        "Slab edge dampness",
        "H2D3",
        "The finished slab is at least 150 mm above ground, or 100 mm above sandy well-drained soil.",
        "Landscapers raise the garden afterwards and bury the weep holes.",
        "levels on the drainage plan, a photo with a ruler, the landscaper's sign-off",
    ),
    (
        "Termite management",
        "H1D3",
        "A termite management system to AS 3660.1 protects the primary building elements.",
        "Penetrations added after the barrier was laid are left without collars.",
        "certificate, durable notice in the meter box, location of every collar",
    ),
    (
        "Wall bracing",
        "H1D6",
        "Bracing resists wind in both directions and is spread evenly at not more than 9 m centres.",
        "Plasterboard bracing is cut for services after the frame inspection.",
        "bracing plan, nail spacing photos, tie-down schedule",
    ),
    (
        "Wet area falls",
        "H4D2",
        "The floor of a shower falls to the waste at between 1:80 and 1:50.",
        "The screed is laid before the waste height is known.",
        "membrane certificate, falls measured at four points, flood test for 24 hours",
    ),
    (
        "Smoke alarms",
        "H3D6",
        "Interconnected alarms are placed on every storey and between bedrooms and the rest of the dwelling.",
        "A ceiling fan within 400 mm keeps smoke away from the alarm.",
        "electrician's certificate, layout plan, date of manufacture",
    ),
    (
        "Stairs",
        "H5D2",
        "Risers lie between 115 mm and 190 mm, goings between 240 mm and 355 mm, and all are constant within a flight.",
        "Floor coverings change the first and the last riser.",
        "measured risers, slip rating report, handrail height",
    ),
    (
        "Balustrades",
        "H5D3",
        "A barrier at least 1 m high is needed where the fall is 1 m or more, with no opening wider than 125 mm.",
        "Planters and benches next to the barrier make it climbable.",
        "load test or calculation, opening gauge, glass certificate",
    ),
    (
        "Ventilation",
        "H4D7",
        "A habitable room has openings of at least 5 % of its floor area.",
        "Restricted windows no longer give the full opening.",
        "window schedule, restrictor detail, fan flow rate in L/s",
    ),
    (
        "Condensation",
        "H4D9",
        "Wall membranes outside the insulation are vapour permeable in climate zones 6, 7 and 8.",
        "Foil left over from another job is used on the southern wall.",
        "membrane class, photos before cladding, exhaust duct route",
    ),
    (
        "Cladding",
        "H1D7",
        "Cladding is fixed to the frame at the centres given by the maker for the wind class.",
        "Fixings are shot through the drained cavity battens into nothing.",
        "wind class, fixing log, appraisal or CodeMark certificate",
    ),
    (
        "Roof plumbing",
        "H2D6",
        "Eaves gutters have overflow measures and box gutters have a 1 in 100 year capacity.",
        "Downpipes move on site and the catchment grows.",
        "catchment plan, overflow detail, rainfall intensity used",
    ),
    (
        "Glazing",
        "H1D8",
        "Human impact safety glazing follows AS 1288, and openings are protected where the floor is 2 m above ground.",
        "A window is lowered during a redesign and nobody checks the sill.",
        "glass labels, window schedule, permanent marking",
    ),
    (
        "Bushfire",
        "H7D4",
        "Construction in a bushfire-prone area follows AS 3959 for its attack level.",
        "Decks and carports attached later are not assessed.",
        "BAL assessment, ember mesh 2 mm, sealed gaps",
    ),
    (
        "Energy",
        "H6D2",
        "The dwelling reaches 7 stars, and the whole-of-home budget is met.",
        "Downlights push the insulation aside and lower the real R-value.",
        "NatHERS certificate, insulation photos, lamp power density",
    ),
    (
        "Sound",
        "H4D8",
        "Separating walls reach Rw + Ctr not less than 50 and have discontinuous construction next to wet areas.",
        "Back-to-back power points bridge the two leaves.",
        "test report, as-built section, caulking photos",
    ),
]

SENTENCES = (
    "{topic} ({clause}). {rule} This is the deemed-to-satisfy path; a performance solution needs a report by a person who may give one.",
    "What goes wrong: {trap} It costs little to look before the work is covered and a great deal afterwards.",
    "Keep as evidence: {proof}. Store it with the consent number, the lot and the date, so that it can be found in ten years.",
    'When {topic_small} comes up at handover, show the owner where it is written in the manual, say who maintains it and how often, and note the answer; the certifier\'s question is always "who checked, and when?"',
)


def _words(topic: tuple[str, str, str, str, str]) -> dict[str, str]:
    return dict(zip(("topic", "clause", "rule", "trap", "proof"), topic, strict=True)) | {
        "topic_small": topic[0].lower()
    }


def _thirty() -> Draft:
    blocks: list[dict[str, Any]] = []
    for topic in TOPICS[:15]:
        words = _words(topic)
        blocks += [md(f"**{words['topic']}**: {words['rule']}"), note("warning", words["clause"], words["trap"])]
    return draft(
        "Thirty short reminders for a new site manager", "Fifteen topics, each with its rule and its trap.", *blocks
    )


def _guide() -> Draft:
    blocks: list[dict[str, Any]] = []
    for number, topic in enumerate(TOPICS, start=1):
        words = _words(topic)
        text = "\n\n".join(sentence.format(**words) for sentence in SENTENCES)
        blocks.append(md(f'## {number}. {words["topic"]}\n\n{text}\n\n> "{words["rule"]}" – {words["clause"]}'))
        blocks.append(
            ol(*(f"{part.strip().capitalize()} for {words['topic'].lower()}." for part in words["proof"].split(",")))
        )
        blocks.append(note("info", f"{words['clause']} in short", f"{words['rule']} {words['trap']}"))
    return draft(
        "A guide to sixteen parts of the housing provisions",
        "Long on purpose: one section a topic, each with its rule, trap and evidence.",
        *blocks,
    )


def _schedule() -> Draft:
    blocks: list[dict[str, Any]] = []
    for part, (topic, clause, rule, _, _) in enumerate(TOPICS[:12], start=1):
        rows = [
            [
                f"{part}.{row:02d}",
                f"{topic}, member {row}",
                f"{90 + 5 * row} × {35 + part}",
                f"{1.2 + 0.05 * row * part:.2f}",
                f"{clause}({row})",
            ]
            for row in range(1, 41)
        ]
        blocks.append(md(f"Part {part}: {rule}"))
        blocks.append(
            tbl(f"Part {part}, spans in m | sizes in mm", ["Mark", "Member", "Size", "Span", "Clause"], *rows)
        )
    script = "\n".join(
        f'check("{clause}", {{"topic": "{topic}", "path": "C:\\\\new\\\\{topic.lower()}"}})'
        for topic, clause, *_ in TOPICS
    )
    blocks += [code("python", script), ul(*(f"{clause}: {topic}" for topic, clause, *_ in TOPICS))]
    return draft(
        "Member schedule, twelve parts", "480 rows; sizes are nominal and every row has its own mark.", *blocks
    )


LONG: dict[str, Draft] = {"thirty_blocks": _thirty(), "long_guide": _guide(), "long_schedule": _schedule()}
