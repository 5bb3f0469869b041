"""Patterns answer what `re.search` does, in time linear in the text; what cannot is refused."""

from __future__ import annotations

import random
import re
from threading import Thread

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mastra_convex.filters import regular
from mastra_convex.filters.regular import MAX_LENGTH, MAX_STATES, PatternError, compile_pattern

FLAGS = {"i": re.I, "m": re.M, "s": re.S, "x": re.X, "a": re.A}

ATOMS = st.sampled_from(
    ["a", "b", "B", "é", "É", "ſ", " ", ".", "\\n", "\\.", "[ab]", "[^a]", "[a-c\\d]", "[^\\W_]", "[\\n]"]
)
ATOMS |= st.sampled_from(["\\d", "\\D", "\\s", "\\S", "\\w", "\\W", "^", "$", "\\A", "\\Z", "\\b", "\\B", "(?:)", "()"])
COUNTS = st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{0}", "{1,2}", "{,2}", "{2,}", "{1,3}?", "{0,}"])
GROUPS = st.sampled_from(["(", "(?:", "(?i:", "(?s:", "(?m:", "(?-i:", "(?a:", "(?P<name{}>"])


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sequences = st.lists(inner, min_size=1, max_size=3).map("".join)
    grouped = st.tuples(GROUPS, st.lists(sequences, min_size=1, max_size=3)).map(lambda it: f"{it[0]}{'|'.join(it[1])})")
    return sequences | grouped | st.tuples(grouped | ATOMS, COUNTS).map("".join)


PATTERNS = st.recursive(ATOMS, grown, max_leaves=8)
TEXTS = st.text(st.sampled_from("abBcéÉsſ1_ .\n\u2028"), max_size=8)
NEVER = "[^\\s\\S]{2}"
CHOSEN_FLAGS = st.sets(st.sampled_from(list(FLAGS.values()))).map(lambda them: sum(int(it) for it in them))


def named(pattern: str) -> str:
    """Group names that differ."""
    parts = pattern.split("{}")
    return "".join(f"{part}{number}" for number, part in enumerate(parts[:-1])) + parts[-1]


@settings(max_examples=300, deadline=None)
@given(pattern=PATTERNS.map(named), flags=CHOSEN_FLAGS, texts=st.lists(TEXTS, min_size=1, max_size=4))
@example(pattern="\\B", flags=0, texts=["", "a", "\n"])
@example(pattern="a$", flags=0, texts=["a\n", "a\n\n", "a\nb"])
@example(pattern="a$|(b)*$", flags=int(re.M), texts=["a\nb", "\n", "a\n\n"])
@example(pattern="s+", flags=int(re.I), texts=["ſ", "S"])
@example(pattern="(?:|a)+b", flags=0, texts=["aab", "aa"])
def test_a_search_answers_what_re_does(pattern: str, flags: int, texts: list[str]) -> None:
    try:
        expected = re.compile(pattern, flags)
    except re.error:  # such as a repeated assertion
        with pytest.raises(PatternError, match="malformed"):
            compile_pattern(pattern, flags)
        return
    compiled = compile_pattern(pattern, flags)
    chosen = compile_pattern(f"(?:{pattern}|{NEVER})", flags)  # with a choice, so that `re` does not search it
    for text in texts:
        assert compiled.search(text) is chosen.search(text) is (expected.search(text) is not None), text


@pytest.mark.parametrize("flag", ["", "i", "a", "ia"])
def test_single_characters_are_folded_and_sorted_as_re_does(flag: str) -> None:
    flags = sum(int(FLAGS[it]) for it in flag)
    for pattern in ("(k|[å-ö]|ǆ|µ|ẞ|ı)x", "(\\w|-)x", "([^\\s\\d]|1)x", "(\\b|-)x"):
        compiled, expected = compile_pattern(pattern, flags), re.compile(pattern, flags)
        for code in (*range(0x250), 0x3BC, 0x1E9E, 0x2028, 0x212A, 0x212B, 0x3000, 0xFB05, 0xD800, 0x1F600, 0x10FFFF):
            text = chr(code) + "x"
            assert compiled.search(text) is (expected.search(text) is not None), (pattern, code)


LONG = 100_000


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("(a+)+$", "a" * LONG + "!", False),
        ("(a|aa)+$", "a" * LONG + "!", False),
        ("(.*a){20}", "b" * LONG, False),
        ("(.*a){20}", "ab" * (LONG // 2), True),
        ("^(\\w+\\s?)*$", "word " * (LONG // 5) + "!", False),
        ("(x+x+)+y", "x" * LONG, False),
        ("(a?){100}a{100}b", "a" * LONG, False),
    ],
)
def test_a_pattern_that_backtracks_exponentially_takes_linear_steps(pattern: str, text: str, found: bool) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.search(text) is found
    # Far below even one state a character: nearly every character is a look-up of what was met before.
    assert compiled.visited < LONG


def test_what_is_remembered_is_bounded_and_the_steps_stay_linear_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern with 2**13 sets of states, over a text that meets them at random."""
    monkeypatch.setattr(regular, "MAX_TRANSITIONS", 100)
    compiled = compile_pattern("(?:a|b)*a(?:a|b){12}c")
    text = "".join(random.Random(7).choices("ab", k=20_000))
    assert not compiled.search(text)
    assert len(compiled._known) <= 101
    assert 20_000 < compiled.visited <= compiled.states * (len(text) + 1)
    assert compiled.search(text + "c")


def test_a_pattern_without_choices_is_searched_directly() -> None:
    compiled = compile_pattern("^ab[cd]{3}$", int(re.I))
    assert compiled.search("ABcdC")
    assert compiled.visited == 0


def test_threads_may_share_a_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular, "MAX_TRANSITIONS", 50)
    compiled = compile_pattern("(?:a|b)*a(?:a|b){6}c")
    answers: list[bool] = []

    def search(seed: int) -> None:
        chosen = random.Random(seed)
        for _ in range(50):
            text = "".join(chosen.choices("ab", k=30)) + "c"
            answers.append(compiled.search(text) is (text[-8] == "a"))

    threads = [Thread(target=search, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 200


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a)\\1", "a backreference cannot be searched in linear time"),
        ("(?P<n>a)(?P=n)", "a backreference"),
        ("a(?=b)", "lookaround"),
        ("a(?!b)", "lookaround"),
        ("(?<=a)b", "lookaround"),
        ("(?<!a)b", "lookaround"),
        ("(a)?(?(1)b|c)", "a conditional group"),
        ("(?>a+)b", "an atomic group"),
        ("a*+b", "a possessive repeat"),
    ],
)
def test_what_is_not_regular_is_refused_by_its_name(pattern: str, problem: str) -> None:
    with pytest.raises(PatternError, match=problem):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["(", "a)", "[a", "*", "a{2,1}", "\\q", "(?z)", "(?L)a", "a{99999999999}", "(?P<n>a)(?P<n>b)"]
)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="malformed"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "a" * MAX_STATES,
        f"a{{{MAX_STATES}}}",
        "((a{30}){30}){30}",
        "(a?){900}",
        "(" * 4_000 + ")" * 4_000,
        " " * (MAX_LENGTH + 1),
    ],
)
def test_a_pattern_that_is_too_large_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="too large"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["(?:){99999999}", "(?:(?:a{0}){9999}){9999}b", "(?:()|^){3}", "a{999}", "(?:){5,99999999}"]
)
def test_repeats_of_nothing_cost_nothing(pattern: str) -> None:
    assert compile_pattern(pattern).states <= MAX_STATES


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("(?:){100000000}b", True),
        ("(?:a{0}){99999999}x", False),
        ("((((()?){1000}){1000}){1000}){1000}c", True),
        ("(){99999999}$", True),
    ],
)
def test_repeats_of_nothing_take_no_steps(pattern: str, found: bool) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.search("abc" * 100) == found
    assert 0 < compiled.visited < 2_000  # `re`, which counts none, would take each of the repeats


def test_other_flags_are_refused() -> None:
    with pytest.raises(PatternError, match="flags"):
        compile_pattern("a", int(re.DEBUG))


def test_a_pattern_searches_again_and_again() -> None:
    compiled = compile_pattern("(a|b)+c")
    assert [compiled.search(text) for text in ("abc", "ab", "c", "", "bc\n")] == [True, False, False, False, True]
