"""Which faults are combined, and which meet the answer that makes them hardest."""

Step = tuple[str, str]


def steps(text: str) -> list[Step]:
    """From "fault/flavour" words."""
    return [(name, flavour) for name, _, flavour in (word.partition("/") for word in text.split())]


TREE = steps(
    "alias/many alias/body alias/sections alias/kind extra_key/confidence extra_key/text list_items/objects "
    "list_items/one_string rows_as_objects/with_columns rows_as_objects/without_columns "
    "table_as_text/table_text_title wrong_type/null_summary wrong_type/string_bool missing/summary "
    "missing/ordered missing/tone wrapped/answer wrapped/array"
)
DOC = steps(
    "single_quotes/all_escaped smart_quotes/all unescaped_quotes/all raw_newlines/newlines single_backslash/all "
    "comments/line comments/block missing_comma/one bad_escape/apostrophe invisible/zero_width_in_words "
    "missing_comma/between_blocks"
)
LIGHT = steps(
    "trailing_comma/one trailing_comma/every literals/python unquoted_keys/all missing_bracket/two "
    "missing_bracket/block_end extra_bracket/end raw_newlines/newlines"
)
RAW = steps(
    "fence/json fence/prose fence/unclosed prose/before prose/after think/think think/think_json residue/bom "
    "residue/eos encoded/string residue/every_line encoded/html"
)
CUT_TREE = steps("alias/many alias/body alias/sections alias/kind extra_key/confidence")
CUT_RAW = steps("fence/unclosed prose/before think/think residue/bom")
CUT_DOC = [*DOC[:5], *steps("trailing_comma/every unquoted_keys/all literals/python")]

# A fault on the answer that makes it hardest: what breaks the form also stands in the texts.
HARD = {
    "fences_in_text": steps("fence/json fence/prose fence/unclosed fence/tilde prose/both"),
    "apostrophes": steps("single_quotes/all single_quotes/all_escaped smart_quotes/all"),
    "nested_quotes": steps("single_quotes/all unescaped_quotes/all smart_quotes/all"),
    "looks_like_json": steps("unescaped_quotes/all missing_comma/one unquoted_keys/all two_objects/same"),
    "code_json": steps("unescaped_quotes/all raw_newlines/newlines encoded/string_twice prose/braces_before"),
    "slashes_hashes": steps("comments/line comments/hash comments/block raw_newlines/newlines"),
    "links": steps("comments/end_of_line encoded/html unquoted_keys/all"),
    "literal_words": steps("literals/python literals/python_quotes list_items/numbered_string"),
    "trailing_commas": steps("trailing_comma/every missing_comma/many extra_bracket/after_block"),
    "windows_paths": steps("single_backslash/all lost_escape/own raw_newlines/wrapped encoded/string"),
    "latex_beam": steps("single_backslash/all lost_escape/own encoded/string_twice"),
    "wall_frl": steps("table_as_text/in_markdown table_as_text/rows_text table_as_text/table_text_title"),
    "code_python": steps("raw_newlines/newlines single_quotes/all_escaped unescaped_quotes/all"),
    "emoji_zwj": steps("truncated/in_unicode invisible/zero_width_in_words encoded/html"),
    "arabic_mix": steps("smart_quotes/all invisible/bidi_override rows_as_objects/without_columns"),
}

# One variant of each on every long answer.
LONG_STEPS = [
    *([step] for step in steps("fence/prose trailing_comma/every truncated/60% single_quotes/all_escaped")),
    *([step] for step in steps("raw_newlines/newlines unescaped_quotes/all missing_bracket/all_end")),
    steps("alias/many fence/unclosed"),
]
