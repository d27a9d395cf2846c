# ruff: noqa: E501 (macrons, Arabic, Hebrew and prime marks are the point; a table row reads best on one line)
"""Good drafts, hand-written, of many shapes. The facts are plausible, not authoritative: only their form is tested."""

from tests.guard.corpus.answers_long import LONG
from tests.guard.corpus.draft import Draft, code, draft, md, note, ol, tbl, ul

SHORT: dict[str, Draft] = {
    "wall_frl": draft(
        "Fire resistance of a boundary wall, Class 2 building",
        "A loadbearing external wall less than 1.5 m from the boundary needs FRL 90/90/90 in Type A construction.",
        md(
            "The levels below apply to **Type A** construction (NCC 2022 Volume One, S5C11). Distances are measured to the *fire-source feature*."
        ),
        tbl(
            "FRL (structural | integrity | insulation) in minutes",
            ["Distance", "Loadbearing", "Non-loadbearing | note"],
            ["< 1.5 m", "90/90/90", "–/90/90"],
            ["1.5 m to < 3.0 m", "90/60/60", "–/60/60"],
            ["≥ 3.0 m", "90/60/30", "–/–/– | see S5C11(2)"],
        ),
        note(
            "warning",
            "Check the tested system",
            "A 92 mm stud wall with 2 × 13 mm plasterboard is only 90/90/90 if the test report says so | load ratio ≤ 0.6.",
        ),
    ),
    "clause_quotes": draft(
        'What "readily accessible" means for a 6" duct',
        'Clause 3.2 says the damper must be "readily accessible"; a 24" × 24" panel is commonly accepted.',
        md(
            'The standard reads: "Access shall be provided to every fire damper, and the opening shall be not less than 450 mm × 450 mm." An older note allows 18" × 18" for ducts up to 6" deep.'
        ),
        ul(
            '"Readily accessible" means without a ladder over 6\' 6" high.',
            'A 2" gap is not an "opening".',
            'The label must read "FIRE DAMPER – DO NOT OBSTRUCT".',
        ),
        note("info", 'On "shall"', 'In NZS and AS documents "shall" is mandatory and "should" is advice.'),
    ),
    "latex_beam": draft(
        "Mid-span deflection of a simply supported beam",
        r"Use $\delta = \frac{5 w L^4}{384 E I}$ and compare it with span/300.",
        md(
            "The deflection under a uniform load is\n\n$$\\delta = \\frac{5 \\times w \\times L^4}{384 \\times E \\times I}$$\n\nwith $w$ in $\\text{kN/m}$ and $L$ in $\\text{mm}$."
        ),
        ol(
            r"Take $E = 200\,000\ \text{MPa}$.",
            r"Take $I = 16.1 \times 10^6\ \text{mm}^4$.",
            r"Check $\delta \leq \frac{L}{300}$, not $\frac{L}{250}$.",
        ),
        tbl(
            r"Load factors $\gamma$",
            ["Action", r"Factor $\gamma_i$", "Source"],
            ["Permanent", r"$1.2 \times G$", "AS/NZS 1170.0"],
            ["Imposed", r"$1.5 \times Q$", "AS/NZS 1170.0"],
            ["Both", r"$\text{max}(1.35G,\ 1.2G + 1.5Q)$", "Clause 4.2.2"],
        ),
    ),
    "latex_greek": draft(
        r"Effective length and the factor $\beta$",
        r"The slenderness $\lambda$ depends on $\beta$, $\rho$ and the Poisson ratio $\nu$.",
        md(
            r"For a column, $\beta_x = \frac{M_1}{M_2}$ and $\nu = 0.3$; then $\bar{\lambda} = \sqrt{\frac{N_s}{N_{om}}}$ and $\theta \neq 0$ gives $\tau \approx \rho \tan\theta$."
        ),
        tbl(
            None,
            ["Symbol", "Meaning"],
            [r"$\beta$", "moment ratio"],
            [r"$\nu$", "Poisson ratio"],
            [r"$\rho$", "density in kg/m³"],
            [r"$\tau$", "shear stress"],
            [r"$\uparrow$", "uplift"],
        ),
        note(
            "info",
            None,
            r"Write $\text{design} \rightarrow \text{check}$ in the producer statement, with $\nabla$ and $\forall$ spelled out.",
        ),
    ),
    "code_python": draft(
        "A script that checks stud spacing",
        "It reads the schedule and prints every wall whose spacing is over 600 mm.",
        md('Run it with `python check.py walls.csv`; the limit sits in `LIMITS["stud"]`.'),
        code(
            "python",
            'import csv\nimport re\n\nLIMITS = {"stud": 600, "nog": 800}\nPATTERN = re.compile(r"^W(\\d+)\\.(?P<mark>[A-Z]{2})$")\n\n\ndef over(path: str) -> list[str]:\n    with open(path, encoding="utf-8") as file:\n        rows = [row for row in csv.DictReader(file)]\n    return [f"{row[\'mark\']}: {row[\'spacing\']} mm\\n" for row in rows if int(row["spacing"]) > LIMITS["stud"]]\n\n\nif __name__ == "__main__":\n    print("\\t".join(over("walls.csv")))  # tab between marks',
        ),
        note("success", "Tested", "Python 3.11; no packages needed."),
    ),
    "code_json": draft(
        "The JSON an e-lodgement portal expects",
        'Send {"lot": ..., "plan": ...} with every amount as a string.',
        md(
            'The portal answers `{"status": "ok", "errors": []}` or `{"status": "rejected", "errors": [{"code": "E12"}]}`.'
        ),
        code(
            "json",
            '{\n  "title": "Building consent",\n  "lot": "12",\n  "plan": "DP 345678",\n  "blocks": [{"type": "A", "storeys": 3}, {"type": "B", "storeys": 2}],\n  "note": "He said \\"urgent\\"",\n  "path": "C:\\\\plans\\\\new"\n}',
        ),
        ul("`lot` is never a number.", 'An empty list is sent as `[]`, not as `""`.', 'Do not send `{"lot": null}`.'),
    ),
    "code_regex_shell": draft(
        "Find clause numbers in a folder of specifications",
        "Use grep for a first look and sed for the clean-up.",
        code(
            "sh",
            "#!/bin/sh\n# list clauses such as C2D4(1)(a)\ngrep -RhoE '\\b[A-J][0-9]+[DPV][0-9]+(\\([0-9a-z]+\\))*' \"$1\" | sort -u > /tmp/clauses.txt\nawk -F'\\t' '{ printf \"%s\\n\", $1 }' /tmp/clauses.txt | sed -e 's/\\./\\\\./g'",
        ),
        md(
            r"The pattern `\b[A-J]\d+[DPV]\d+` matches *C2D4* and not *AC2D4*; `\.` is a dot, `\\` one backslash and `\"` a quote."
        ),
        code("regex", r'^(?:AS|NZS|AS/NZS)\s\d{4}(?:\.\d+)?:\d{4}$|"[^"\\]*(?:\\.[^"\\]*)*"'),
    ),
    "windows_paths": draft(
        r"Where the drawing register lives: C:\new\temp\users",
        r"Copy \\server\share\register to C:\building\files and keep the name.",
        md(
            r"The add-in looks in C:\new\temp\users first, then in \\server\share\nz\templates and last in D:\rfi\bca\forms."
        ),
        ol(
            r"Close Revit and open C:\Users\builder\AppData\Roaming.",
            r"Rename C:\new\notes.txt to C:\new\notes.bak.",
            r"Point the add-in to \\fileserver\projects\2024\tender.",
        ),
        tbl(
            None,
            ["File", "Folder"],
            ["template.rvt", r"C:\templates\revit\new"],
            ["fonts.txt", r"C:\fonts\user"],
            ["backup.bat", r"\\nas\backup\upper"],
        ),
    ),
    "maori_macrons": draft(
        "Te tikanga whakamōhio: building on Māori land",
        "Whenua Māori needs the Māori Land Court's view as well as a building consent from Te Kaunihera o Tāmaki Makaurau.",
        md(
            "Kia ora. **Papakāinga** on whenua Māori are covered by Te Ture Whenua Maori Act 1993. Talk to the kaitiaki early: ngā wāhi tapu, the awa and the ara are often not on the council's maps."
        ),
        ul(
            "Ōtautahi / Christchurch: Te Rūnanga o Ngāi Tahu.",
            "Kirikiriroa / Hamilton: Waikato-Tainui.",
            "Taupō: Ngāti Tūwharetoa.",
        ),
        note("info", "He kupu āwhina", "Whāngārei and Ōpōtiki have papakāinga toolkits; ask for the ‘kete’."),
    ),
    "emoji_zwj": draft(
        "Site induction card 👷🏽‍♀️",
        "Three things before you enter: helmet ⛑️, boots 🥾 and sign-in ✅.",
        ul(
            "👷🏽‍♀️ Report to the site manager.",
            "🧑🏿‍🔧 Only licensed people touch switchboards.",
            "👨‍👩‍👧‍👦 Visitors stay behind the barrier 🚧.",
            "🏳️‍🌈 Everyone is welcome.",
        ),
        note("danger", "⚠️ Live services", "Call before you dig ☎️; see 🇦🇺 Before You Dig and 🇳🇿 beforeUdig."),
        md("Smile 🙂, hydrate 🚰 and look out for each other 🤝🏼."),
    ),
    "arabic_mix": draft(
        "Fire exits – مخارج الحريق",
        "An exit door must open in the direction of travel. يجب أن يفتح باب المخرج باتجاه الخروج.",
        md(
            "**English**: the clear width is 850 mm.\n\n**العربية**: العرض الصافي للباب 850 مم وفق NCC 2022 البند D2D8."
        ),
        tbl(
            "الأبعاد",
            ["Item", "العنصر", "Value"],
            ["Door width", "عرض الباب", "850 mm"],
            ["Travel distance", "مسافة السير", "20 m"],
            ["Stair riser", "ارتفاع الدرجة", "190 mm"],
        ),
        note("warning", "تنبيه", "لا تُقفل أبواب المخارج – never lock an exit (D3D24)."),
    ),
    "hebrew_mix": draft(
        "Safe rooms and NCC: ממ״ד",
        "A ממ״ד is an Israeli shelter room; the NCC has no such class, so it is treated as part of a Class 1a dwelling.",
        md("The term ממ״ד (mamad) stands for מרחב מוגן דירתי. Wall thickness there is 200 mm; here AS 3600 governs."),
        ol("בדוק את ההיתר – check the permit.", "מדוד 200 mm לפחות.", "Record it as AS 3600, clause 5.4."),
        note("info", None, "Written right to left: שלום, עולם! then left to right: hello, world!"),
    ),
    "nested_quotes": draft(
        "Who said “compliant”?",
        'The builder wrote: "The certifier told me \'it is "deemed" to comply\'".',
        md(
            'Witness: "He said, \'The report calls it "non-combustible", doesn\'t it?\'" The expert answered “no”, then «perhaps», then ‘it depends’.'
        ),
        ul("\"'Quoted' at the start", "at the end 'quoted'\"", 'in "the" "middle" "often"', '"" is an empty quote'),
        note(
            "warning",
            '"Deemed"',
            'A report that says "deemed", "likely" or "should" is not evidence of suitability under A5G3.',
        ),
    ),
    "links": draft(
        "Where to read the documents free of charge",
        "The NCC is free at https://ncc.abcb.gov.au/ after you sign up.",
        md(
            'See [NCC 2022 Volume One](https://ncc.abcb.gov.au/editions/ncc-2022/adopted/volume-one/c-fire-resistance "Section C"), [Building Act 2004](https://www.legislation.govt.nz/act/public/2004/0072/latest/DLM306036.html?search=ts_act%40bill&p=1#DLM306036) and <https://www.building.govt.nz/>.'
        ),
        ul(
            "[Acceptable Solution E2/AS1](https://www.building.govt.nz/building-code-compliance/e-moisture/e2-external-moisture/)",
            'mailto:info@building.govt.nz, subject line "E2/AS1"',
            "ftp://old.example.org/a,b;c=[1]{2} is no longer served",
        ),
        tbl(
            None,
            ["Document", "Address"],
            ["NZS 3604:2011", "https://www.standards.govt.nz/shop/nzs-36042011/"],
            ["AS 1684.2", "https://store.standards.org.au/product/as-1684-2-2021?utm=a&b={c}"],
        ),
    ),
    "empty_summary": draft(
        "Handrail height",
        "",
        md("A handrail along a stair is between 865 mm and 1000 mm above the nosings."),
        tbl(None, ["Place", "Minimum"], ["Stair", "865 mm"], ["Landing", "1000 mm"], ["Ramp", ""]),
        note("info", None, "Measured vertically."),
    ),
    "one_block": draft(
        "Is a consent needed for a 10 m² shed?",
        "No, if it is single-storey and at least its own height from the boundary.",
        md("Schedule 1 of the Building Act 2004 exempts a detached building up to 10 m² in floor area."),
    ),
    "fences_in_text": draft(
        "How to paste code into a request for information",
        "Put three backticks (```) before and after it.",
        md(
            'Like this:\n\n```json\n{"rfi": 12, "open": true}\n```\n\nand, for a shell command:\n\n~~~sh\nls -la ./drawings\n~~~\n\nThe closing ``` stands alone.'
        ),
        code("markdown", '# RFI 12\n\n```python\nprint({"a": [1, 2]})\n```\n\nSee ~~~ and ``` in the guide.'),
        ul("Write ```json, not ``` json.", "`{` and `}` need no escape inside ```."),
    ),
    "looks_like_json": draft(
        '{"title": "not the title"} is a valid document name',
        "Names such as [1, 2] or {a: b} are stored as they are, null and true too.",
        md('{"type": "markdown", "text": "this is text about JSON"}'),
        ul('{"item": 1}', '["a", "b"],', '"blocks": [', "}, {", 'key: value, other: "value"'),
        tbl('"columns": ["a"]', ["{", "}"], ["[", "]"], [":", ","], ['"text": "x"', "null"]),
    ),
    "thousands": draft(
        "Levy on a project of NZ$1,250,000.00",
        "The building levy is $1.75 per $1,000 over $65,000, so about $2,073.75.",
        md(
            "Of $1,250,000.00 the part above $65,000 is $1,185,000; 1,185 × $1.75 = $2,073.75. In Australia amounts are often written $1 250 000."
        ),
        tbl(
            "Fees, 2024–25",
            ["Value of work", "Levy", "Research levy"],
            ["$65,000", "$0.00", "$0.00"],
            ["$100,000", "$61.25", "$100.00"],
            ["$1,250,000", "$2,073.75", "$1,250.00"],
            ["$12,345,678.90", "$21,491.19", "$12,345.68"],
        ),
        note("info", "Rounding", "Round 0.005 up; 1,000.5 kg is written 1 000.5 kg; 1.2e3 is not used."),
    ),
    "slashes_hashes": draft(
        "Reading a drawing number: A-101 // rev C # issued",
        "// and # are separators here, not comments; /* is a wildcard.",
        md(
            "# Drawing numbers\n\nThe register at //server/register lists A-101//C. Item #4 costs 50 c/m; see http://example.org/a//b#c.\n\n## Wildcards\n\n/* matches everything */ and // TODO is left to the drafter."
        ),
        ul("#1 Title block", "// second line", "A-101 # checked", "/* not a comment */", "and/or: 1/2, 3/4"),
        code("c", "// deflection\nint limit = span / 300; /* mm */\n#define G 9.81 // m/s2"),
    ),
    "apostrophes": draft(
        "The builder's duties when it's raining",
        "It's the builder's job, not the owner's; don't pour if the slump's off.",
        md(
            "The engineer's note says 'don't pour'. The council's inspector won't pass it if the slab's edges aren't covered."
        ),
        ol(
            "Check the supplier's docket.",
            "Don't add water; it's the plant's job.",
            "Keep the tester's cylinders: they're the client's proof.",
            "'Wet' isn't 'damp'.",
        ),
        note(
            "warning", "Who's liable?", "The contractor's insurer and the designer's both ask: 'Who's decision was it?'"
        ),
    ),
    "literal_words": draft(
        "True, None and NaN in a sensor log",
        "True means alarm; None means no reading; NaN, Infinity and null mean a broken probe.",
        md(
            "If the field is True or False the sensor works. null, undefined, NaN and -Infinity are all written by old loggers; None is written by the new one."
        ),
        tbl(
            "Readings",
            ["Reading", "Meaning", "Alarm"],
            ["True", "smoke", "true"],
            ["False", "clear", "false"],
            ["None", "no signal", "null"],
            ["NaN", "broken", "undefined"],
        ),
        ul("True", "None of the above", "null", "NaN"),
    ),
    "trailing_commas": draft(
        "Lists that end in a comma,",
        "Some specifications end every item with a comma, or with ,] by mistake,",
        md("The clause reads: concrete, steel, timber,\n\nand goes on: [a, b,], {c,}, and so on,"),
        ul("concrete,", "steel,", "timber, ,", ", nails", "screws,]", "bolts,}"),
        tbl(None, ["Item,", "Unit,"], ["sand,", "m³,"], ["tiles,,", "m²,"]),
    ),
    "checklist": draft(
        "Before the pre-line inspection",
        "Twelve checks, most of them about moisture and bracing.",
        ol(
            "Framing moisture is 20 % or less.",
            "Bracing elements match the plan.",
            "Straps are on every second stud.",
            "Bottom plate anchors are at 900 mm centres.",
            "Fire stopping is labelled.",
        ),
        ul(
            "Photos of every wet area.",
            "Producer statement PS3 from the installer.",
            "Pipework test at 1500 kPa for 15 minutes.",
        ),
        note("danger", "Stop work", "If the frame is above 20 % moisture do not line it."),
        note("success", "Ready", "Book the inspection 48 hours ahead."),
    ),
    "mixed": draft(
        "Balustrade load: 0.75 kN/m or 1.5 kN/m?",
        "Domestic balconies take 0.75 kN/m; common areas take 1.5 kN/m.",
        md(
            "AS/NZS 1170.1 Table 3.3 lists the *line load* and the *point load*.\n\n- A: domestic\n- C3: crowds\n\nBoth act at 900 mm to 1200 mm."
        ),
        tbl(
            "Barrier loads",
            ["Use", "Line (kN/m)", "Point (kN)", "Infill (kPa)"],
            ["A, domestic", "0.75", "0.6", "1.0"],
            ["B, offices", "0.75", "0.6", "1.0"],
            ["C3, public", "1.50", "1.5", "1.5"],
            ["C5, crowds", "3.00", "1.5", "1.5"],
        ),
        code("text", "M = 1.5 * 1.0 = 1.5 kN.m per metre\nV = 1.5 kN per metre"),
        ul("Post spacing 1200 mm.", "Fixings into concrete ≥ 100 mm from the edge.", "Glass 12 mm toughened."),
        note("warning", None, "A 12 mm anchor at 60 mm edge distance fails."),
    ),
    "numeric": draft(
        "Standard timber sizes",
        "Depths in millimetres, dressed.",
        ul("90", "140", "190", "240", "290"),
        tbl(
            "Span in metres by joist spacing",
            ["Depth", "400", "450", "600"],
            ["140", "2.50", "2.40", "2.10"],
            ["190", "3.40", "3.25", "2.85"],
            ["240", "4.20", "4.00", "3.60"],
        ),
        note("info", "2022", "Values for SG8."),
    ),
    "wide_table": draft(
        "Insulation by climate zone",
        "Total R-values in m²·K/W for roofs and walls.",
        tbl(
            "Zones 1 to 8",
            ["Zone", "Roof R", "Wall R", "Floor R", "Glazing U", "City"],
            ["1", "3.7", "2.8", "1.5", "5.4", "Darwin"],
            ["2", "4.1", "2.8", "1.5", "5.4", "Brisbane"],
            ["4", "4.1", "2.8", "2.25", "4.8", "Dubbo"],
            ["5", "4.1", "2.8", "2.0", "4.8", "Sydney"],
            ["6", "4.6", "2.8", "2.25", "4.2", "Melbourne"],
            ["7", "5.1", "2.8", "2.75", "3.5", "Canberra"],
            ["8", "6.3", "3.8", "3.25", "3.0", "Thredbo"],
        ),
        md("In New Zealand H1/AS1 has six zones; do not mix the two."),
    ),
    "dialogue": draft(
        "Minutes: toolbox talk, 3 March",
        "Two actions were agreed; one stays open.",
        md(
            "**Aroha**: The scaffold tag is out of date.\n**Dev**: I'll call them today.\n**Aroha**: And the edge protection?\n\tDone on level 2, open on level 3."
        ),
        tbl(
            "Actions",
            ["No.", "Action", "Who", "Due"],
            ["1", "Renew the scaffold tag", "Dev", "4 March"],
            ["2", "Edge protection, level 3", "Aroha", ""],
        ),
        note("warning", "Open", "Nobody works on level 3 until item 2 is closed."),
    ),
}

ANSWERS: dict[str, Draft] = SHORT | LONG
