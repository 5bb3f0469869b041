"""The metadata filter language: conditions on JSON-like metadata, as Mastra's vector stores take them.

`compile_filter` checks a filter and compiles it once; `Filter.matches` then answers for one row's metadata. Every mistake
in a filter is an InvalidArgument when it is compiled; matching never raises. Operators mean what MongoDB's mean, with these
rules of our own:

- A row without metadata matches only the empty filter: None or `{}`.
- `$and` and `$or` take one filter or more, none of them empty: built of nothing they would be no filter at all. `$nor` of
  none, `$nin` of none and `{"metadata": {}}` hold for every row with metadata; `Filter.root.constant` tells who is about
  to write.
- Equality is deep and exact: True is not 1, 1 is 1.0.
- Whether a missing field equals None is left open, as people and databases differ about it: a row matches only if it does
  either way. So a missing field matches neither None nor any denial of it (`$ne`, `$nin`, `$not`, `$nor`, however they
  nest). `$exists` asks whether a field is there.
- Only like compares with like: numbers with numbers, strings with strings (by code point). Booleans are not numbers.
- A datetime stands for ISO text of that instant, to the millisecond. A date alone is its midnight in UTC; text with a time
  but without an offset is no instant.
- A key that contains dots wins over the path it spells.
- `$contains`: an array holds the operand, or all of a list of them; a string has it as a part; an object has at least these
  pairs. Patterns are those of `mastra_convex.filters.regular`: they cannot hang.

`paths` follows a field's name into metadata; `operands` says what equals or fits an operand, `operators` what each operator
asks of what a path reaches; `tree` is the compiled filter, and `compiling` makes it. For many rows at once the tree is read
column by column (`mastra_convex.vector.columns`).
"""

from mastra_convex.filters.compiling import MAX_NESTING, compile_filter
from mastra_convex.filters.paths import Several, reached
from mastra_convex.filters.tree import AllOf, AnyOf, Filter, Leaf, Node, Not

__all__ = ["MAX_NESTING", "AllOf", "AnyOf", "Filter", "Leaf", "Node", "Not", "Several", "compile_filter", "reached"]
