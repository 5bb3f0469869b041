"""Regular expressions that cannot hang: a search takes time linear in the text, whatever the pattern.

Python's `re` tries alternatives one after the other, which takes exponential time for patterns like `(a+)+$`. Here a
pattern becomes a nondeterministic automaton whose states are followed all at once, and the sets of states met are
remembered, so that a character mostly costs one look-up and never more than the number of the pattern's states. The syntax
is Python's, parsed by the standard library, and single characters are tested by `re` itself; `search` answers what
`re.search` would, as a bool.

What no such automaton can follow is refused: backreferences, lookaround, conditional and atomic groups, possessive repeats.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final

import attrs

from convexorm import ValidationError

__all__ = ["MAX_LENGTH", "MAX_STATES", "Pattern", "PatternError", "compile_pattern"]

MAX_STATES: Final = 1_000
"""States of a pattern once its repeat counts are written out: the most that one character of a text can cost."""
MAX_LENGTH: Final = 10_000
"""Characters of a pattern."""
MAX_TRANSITIONS: Final = 20_000
"""Transitions that one pattern remembers before it forgets them all; about 200 bytes each."""

FLAGS: Final = int(re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII | re.UNICODE)
_TYPE_FLAGS = int(re.ASCII | re.UNICODE)

try:
    # Not a public module, and its name has changed before (sre_parse). Where it is gone, everything else must still import.
    _parser: Any = importlib.import_module("re._parser")
except ImportError:  # pragma: no cover
    _parser = None


class PatternError(ValidationError):
    """A pattern that is malformed, too large, or asks for what cannot be searched in linear time."""


# -- positions in a text -------------------------------------------------------------------------------------------

# What assertions look at: bits of what stands before a position and of what stands after it.
_EDGE, _NEWLINE, _WORD, _ASCII_WORD, _LAST_NEWLINE = 1, 2, 4, 8, 16

# Texts are read as symbols: their characters, but a newline at the very end is one of its own, and the end is one, too.
_FINAL_NEWLINE, _END = "\n\n", ""

_word = re.compile(r"\w").match
_ascii_word = re.compile(r"\w", re.ASCII).match
_EMPTY_IS_NON_BOUNDARY = re.search(r"\B", "") is not None  # it is from Python 3.14 on


def _kind(symbol: str) -> int:
    if symbol == _END:
        return _EDGE
    if symbol == _FINAL_NEWLINE:
        return _NEWLINE | _LAST_NEWLINE
    if symbol == "\n":
        return _NEWLINE
    return (_WORD if _word(symbol) else 0) | (_ASCII_WORD if _ascii_word(symbol) else 0)


@attrs.frozen
class _Assertion:
    """`holds(before, after)` of a position; `looks_back` are the bits of `before` it needs."""

    holds: Callable[[int, int], bool]
    looks_back: int = 0


def _boundary(word: int) -> _Assertion:
    return _Assertion(lambda before, after: bool(before & word) != bool(after & word), word)


def _non_boundary(word: int) -> _Assertion:
    def holds(before: int, after: int) -> bool:
        if before & _EDGE and after & _EDGE:
            return _EMPTY_IS_NON_BOUNDARY
        return bool(before & word) == bool(after & word)

    return _Assertion(holds, word | _EDGE)


_AT_START = _Assertion(lambda before, _: bool(before & _EDGE), _EDGE)
_AT_LINE_START = _Assertion(lambda before, _: bool(before & (_EDGE | _NEWLINE)), _EDGE | _NEWLINE)
_AT_END = _Assertion(lambda _, after: bool(after & _EDGE))
_AT_TEXT_END = _Assertion(lambda _, after: bool(after & (_EDGE | _LAST_NEWLINE)))
_AT_LINE_END = _Assertion(lambda _, after: bool(after & (_EDGE | _NEWLINE)))

# By the parser's name and whether the flag in the second column is on.
_ASSERTIONS: dict[str, tuple[_Assertion, int, _Assertion]] = {
    "AT_BEGINNING": (_AT_START, re.MULTILINE, _AT_LINE_START),
    "AT_BEGINNING_STRING": (_AT_START, 0, _AT_START),
    "AT_END": (_AT_TEXT_END, re.MULTILINE, _AT_LINE_END),
    "AT_END_STRING": (_AT_END, 0, _AT_END),
    "AT_BOUNDARY": (_boundary(_WORD), re.ASCII, _boundary(_ASCII_WORD)),
    "AT_NON_BOUNDARY": (_non_boundary(_WORD), re.ASCII, _non_boundary(_ASCII_WORD)),
}


# -- from the parsed pattern to states -----------------------------------------------------------------------------


@attrs.define(slots=True)
class _Instruction:
    """One state: it goes on to all of `then` at once, after `character` or where `assertion` holds, if it has one.

    The final state goes nowhere.
    """

    then: tuple[int, ...] = ()
    character: Callable[[str], object] | None = None
    assertion: _Assertion | None = None


_REFUSED = {
    "GROUPREF": "a backreference",
    "GROUPREF_EXISTS": "a conditional group",
    "ASSERT": "lookaround",
    "ASSERT_NOT": "lookaround",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
}
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _escape(code: int) -> str:
    return f"\\U{code:08x}"


_MEMBERS: dict[str, Callable[[Any], str]] = {
    "NEGATE": lambda _: "^",
    "LITERAL": _escape,
    "RANGE": lambda ends: f"{_escape(ends[0])}-{_escape(ends[1])}",
    "CATEGORY": lambda category: _CATEGORIES[category.name],
}
_CHARACTERS: dict[str, Callable[[Any], str]] = {
    "LITERAL": _escape,
    "NOT_LITERAL": lambda code: f"[^{_escape(code)}]",
    "ANY": lambda _: ".",
    "IN": lambda members: f"[{''.join(_MEMBERS[kind.name](value) for kind, value in members)}]",
}
"""The pattern of one character again as text, for `re` to test: case folding and categories are then its own."""


class _Builder:
    """Writes the states of a parsed pattern, from its end to its start.

    `branches` tells whether `re` could take long over it: a state has a choice, or nothing is repeated.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.program = [_Instruction()]
        self.branches = False
        self._characters: dict[tuple[str, int], Callable[[str], object]] = {}

    def add(self, instruction: _Instruction) -> int:
        if len(self.program) >= self.limit:
            raise PatternError(f"the pattern is too large: at most {self.limit:,} states with its repeats written out")
        self.branches = self.branches or len(instruction.then) > 1
        self.program.append(instruction)
        return len(self.program) - 1

    def sequence(self, parsed: Iterable[tuple[Any, Any]], flags: int, then: int) -> int:
        """The state where the sequence starts; after it comes `then`."""
        for kind, value in reversed(list(parsed)):
            if kind.name in _REFUSED:
                raise PatternError(f"{_REFUSED[kind.name]} cannot be searched in linear time; say it without")
            then = _BUILDERS[kind.name](self, kind.name, value, flags, then)
        return then

    def character(self, kind: str, value: Any, flags: int, then: int) -> int:
        key = _CHARACTERS[kind](value), flags & (re.IGNORECASE | re.DOTALL | re.ASCII)
        matcher = self._characters.get(key)
        if matcher is None:
            matcher = self._characters[key] = re.compile(*key).match
        return self.add(_Instruction((then,), character=matcher))

    def assertion(self, _: str, value: Any, flags: int, then: int) -> int:
        plain, flag, flagged = _ASSERTIONS[value.name]
        return self.add(_Instruction((then,), assertion=flagged if flags & flag else plain))

    def branch(self, _: str, value: Any, flags: int, then: int) -> int:
        return self.add(_Instruction(tuple(self.sequence(way, flags, then) for way in value[1])))

    def group(self, _: str, value: Any, flags: int, then: int) -> int:
        _, on, off, inner = value
        if on & _TYPE_FLAGS:
            flags &= ~_TYPE_FLAGS
        return self.sequence(inner, (flags | on) & ~off, then)

    def repeat(self, kind: str, value: Any, flags: int, then: int) -> int:
        least, most, inner = value
        if most == _parser.MAXREPEAT:
            loop = self.add(_Instruction())
            start = self.sequence(inner, flags, loop)
            self.program[loop].then, self.branches = (start, then), True
            then, least = (loop, 0) if least == 0 else (start, least - 1)
        else:
            after = then
            for _ in range(most - least):
                start = self.sequence(inner, flags, then)
                if start == then:
                    return self.nothing(then)
                then = self.add(_Instruction((start, after)))
        for _ in range(least):
            start = self.sequence(inner, flags, then)
            if start == then:
                return self.nothing(then)
            then = start
        return then

    def nothing(self, then: int) -> int:
        """A repeat of nothing: no state here, but as many steps as it says for `re`."""
        self.branches = True
        return then


_BUILDERS: dict[str, Callable[[_Builder, str, Any, int, int], int]] = {
    **dict.fromkeys(_CHARACTERS, _Builder.character),
    "AT": _Builder.assertion,
    "BRANCH": _Builder.branch,
    "SUBPATTERN": _Builder.group,
    "MAX_REPEAT": _Builder.repeat,
    "MIN_REPEAT": _Builder.repeat,
}


# -- searching -----------------------------------------------------------------------------------------------------


@attrs.define(slots=True, eq=False)
class _States:
    """A set of states at a position, with what assertions need to know of the text before it."""

    states: frozenset[int]
    before: int
    following: dict[str, _States] = attrs.field(factory=dict)


_FOUND = _States(frozenset(), 0)


class Pattern:
    """A compiled pattern. Its memory is bounded, and threads may share it.

    `states` is how many it has. `visited` counts the states looked at so far: a search adds at most `states` for every
    character of the text, and mostly nothing, because what was met before is remembered. Neither counts for a pattern
    without choices (no repeats of varying count or of nothing, no alternatives): `re` searches those, which is quick.
    """

    def __init__(self, text: str, flags: int, program: list[_Instruction], start: int, *, branches: bool) -> None:
        self.text = text
        self.flags = flags
        self.states = len(program)
        self.visited = 0
        self._direct = None if branches else re.compile(text, flags)
        self._program = program
        self._entry = frozenset((start,))
        self._looks_back = 0
        for instruction in program:
            self._looks_back |= instruction.assertion.looks_back if instruction.assertion else 0
        self._forget()

    def __repr__(self) -> str:
        return f"<Pattern of {self.states} states>"

    def _forget(self) -> None:
        self._transitions = 0
        self._known: dict[tuple[frozenset[int], int], _States] = {}
        self._start = self._remember(self._entry, _EDGE & self._looks_back)

    def _remember(self, states: frozenset[int], before: int) -> _States:
        return self._known.setdefault((states, before), _States(states, before))

    def search(self, text: str) -> bool:
        """Whether the pattern matches anywhere in `text`."""
        if self._direct is not None:
            return self._direct.search(text) is not None
        here = self._start
        symbols = chain(text[:-1], (_FINAL_NEWLINE, _END)) if text.endswith("\n") else chain(text, (_END,))
        for symbol in symbols:
            here = here.following.get(symbol) or self._follow(here, symbol)
            if here is _FOUND:
                return True
        return False

    def _follow(self, here: _States, symbol: str) -> _States:
        """Where a symbol leads to, remembered for the next time."""
        if self._transitions >= MAX_TRANSITIONS:
            self._forget()
        self._transitions += 1
        following = here.following[symbol] = self._after(here, symbol)
        return following

    def _after(self, here: _States, symbol: str) -> _States:
        program, character, after = self._program, symbol[:1], _kind(symbol)
        waiting, seen, reached = list(here.states), set(here.states), set(self._entry)
        tested: dict[Callable[[str], object], object] = {}
        while waiting:
            self.visited += 1
            at = waiting.pop()
            if at == 0:
                return _FOUND
            instruction = program[at]
            if instruction.character is not None:
                matcher = instruction.character
                if matcher not in tested:
                    tested[matcher] = matcher(character)
                if tested[matcher]:
                    reached.update(instruction.then)
            elif instruction.assertion is None or instruction.assertion.holds(here.before, after):
                fresh = [state for state in instruction.then if state not in seen]
                seen.update(fresh)
                waiting += fresh
        return self._remember(frozenset(reached), after & self._looks_back & ~_EDGE)


def compile_pattern(text: str, flags: int = 0, *, max_states: int = MAX_STATES) -> Pattern:
    """The pattern of `text`, in Python's syntax; `flags` are those of `re`: I, M, S, X and A.

    Raises PatternError for a malformed pattern, one over `max_states` or MAX_LENGTH, and for what is not regular.
    """
    if _parser is None:  # pragma: no cover
        raise PatternError("patterns are not supported on this version of Python")
    if flags & ~FLAGS:
        raise PatternError("the flags of a pattern are I, M, S, X and A")
    if len(text) > MAX_LENGTH:
        raise PatternError(f"the pattern is too large: at most {MAX_LENGTH:,} characters")
    builder = _Builder(max_states)
    try:
        parsed = _parser.parse(text, flags)
        start = builder.sequence(parsed, parsed.state.flags, 0)
    except RecursionError:
        raise PatternError("the pattern is too large: its groups are nested too deeply") from None
    except (re.error, OverflowError, Warning) as error:  # a warning where they are errors: an ambiguous set
        raise PatternError(f"the pattern is malformed: {error}") from None
    return Pattern(text, flags, builder.program, start, branches=builder.branches)
