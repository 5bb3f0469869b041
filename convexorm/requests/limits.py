"""What one request may ask for: Convex's limits, and ours where they are lower."""

from __future__ import annotations

__all__ = [
    "DELETED_BY_RANGE",
    "MAX_DELETED_BY_RANGE",
    "MAX_MERGED",
    "MAX_RANGES",
    "MAX_READS",
    "MAX_SCHEDULED",
    "MAX_SCHEDULED_AHEAD",
    "MAX_SCHEDULED_BYTES",
    "MAX_SEARCH_CLAUSES",
    "MAX_SEARCH_RESULTS",
    "MAX_TEXT_FILTERS",
    "MAX_TEXT_RESULTS",
    "MAX_TEXT_WORDS",
    "MAX_TIED_BYTES",
    "MAX_WRITES",
]

MAX_READS = 1_024
"""Reads of one call, below Convex's 4,096 index ranges of one function even when each resumes behind a key."""


MAX_RANGES = 3_000
"""Ranges of one union: fewer than the 4,000 that one call opens, so that every call goes on from where one stopped."""


MAX_MERGED = 200
"""Ranges of one union that are merged into another order than the index's: all of them are open at once."""


MAX_WRITES = 15_999
"""Writes of one commit: Convex's 16,000 documents of one mutation, one of which is the commit's entry in the ledger."""


MAX_SCHEDULED = 1_000
"""Functions that one commit may schedule (Convex limit)."""


MAX_SCHEDULED_BYTES = 16 << 20
"""Bytes of the arguments of all of them (Convex limit)."""


MAX_SCHEDULED_AHEAD = 5 * 365 * 86_400_000
"""Milliseconds to the latest time that a function may be scheduled at (Convex limit)."""


MAX_DELETED_BY_RANGE = 4_000
"""Documents one commit deletes by ranges: each is read twice, and a function may read 32,000."""


MAX_TIED_BYTES = 6 << 20
"""Bytes of documents that one commit deletes or changes because of others that it deletes."""


DELETED_BY_RANGE = "documents deleted by ranges in one commit"
"""What LimitExceeded calls that limit, and the one on their size."""


MAX_SEARCH_RESULTS = 256
"""Results of one native vector search (Convex limit)."""


MAX_SEARCH_CLAUSES = 64
"""Equalities in the filter of one native vector search (Convex limit)."""


MAX_TEXT_RESULTS = 1_024
"""Results of one text search (Convex limit)."""


MAX_TEXT_WORDS = 16
"""Words of one text search (Convex passes over further ones)."""


MAX_TEXT_FILTERS = 8
"""Equalities in the filter of one text search (Convex limit)."""
