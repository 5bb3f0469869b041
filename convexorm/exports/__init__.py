"""What a schema in TypeScript says: read from its export, and compared with the tables that models declare."""

from __future__ import annotations

from convexorm.exports.comparison import Difference, differences
from convexorm.exports.export import Export, ExportedTable

__all__ = ["Difference", "Export", "ExportedTable", "differences"]
