"""Values that no document can hold, in files: `references` is what stands in their place, `port` moves them on their way to
a deployment and back, `sweeping` removes files that nothing refers to.
"""

from __future__ import annotations

from mastra_convex.large_values.port import LargeValuesPort
from mastra_convex.large_values.sweeping import sweep

__all__ = ["LargeValuesPort", "sweep"]
