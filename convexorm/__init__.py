"""A SQLAlchemy-style ORM for Convex.

Declare entities once, query them through their indexes, and change them in a session whose commit is one atomic Convex
mutation. The same code runs on a Convex deployment and, with no server, on an embedded one over SQLite.
"""

from convexorm import func
from convexorm.calling import typed
from convexorm.comparing import compare
from convexorm.conditions import Condition, and_, not_, or_
from convexorm.counters import Counter, Sum
from convexorm.deployments import Deployment, connect
from convexorm.errors import (
    AuthError,
    ConvexORMError,
    DeploymentError,
    FullTableScanError,
    FunctionFailed,
    FunctionNotFound,
    IndexRangeError,
    InvalidCursorError,
    InvalidRequestError,
    LimitExceeded,
    MultipleResultsFound,
    NoResultFound,
    NotLoadedError,
    StaleDataError,
    ValidationError,
)
from convexorm.files import AsyncFiles, FileMetadata, Files
from convexorm.functions import AsyncFunctions, Functions
from convexorm.live import AsyncLive, Change, Live, Watch
from convexorm.mapping.expressions import Column, Mapped
from convexorm.mapping.model import Index, Model, SearchIndex, VectorIndex, field
from convexorm.mapping.references import UNSET, Id
from convexorm.mapping.relations import Related, RelatedList, relationship
from convexorm.querying.query import Query
from convexorm.querying.statements import Aggregate, Count
from convexorm.schema import Schema, to_typescript
from convexorm.sessions import AsyncSession, Fitting, Hit, Invalid, Page, Progress, Scheduled, Session
from convexorm.system import ScheduledFunction, StoredFile
from convexorm.types import Int64, IsoDatetime, JsonText

__all__ = [
    "UNSET",
    "Aggregate",
    "AsyncFiles",
    "AsyncFunctions",
    "AsyncLive",
    "AsyncSession",
    "AuthError",
    "Change",
    "Column",
    "Condition",
    "ConvexORMError",
    "Count",
    "Counter",
    "Deployment",
    "DeploymentError",
    "FileMetadata",
    "Files",
    "Fitting",
    "FullTableScanError",
    "FunctionFailed",
    "FunctionNotFound",
    "Functions",
    "Hit",
    "Id",
    "Index",
    "IndexRangeError",
    "Int64",
    "Invalid",
    "InvalidCursorError",
    "InvalidRequestError",
    "IsoDatetime",
    "JsonText",
    "LimitExceeded",
    "Live",
    "Mapped",
    "Model",
    "MultipleResultsFound",
    "NoResultFound",
    "NotLoadedError",
    "Page",
    "Progress",
    "Query",
    "Related",
    "RelatedList",
    "Scheduled",
    "ScheduledFunction",
    "Schema",
    "SearchIndex",
    "Session",
    "StaleDataError",
    "StoredFile",
    "Sum",
    "ValidationError",
    "VectorIndex",
    "Watch",
    "and_",
    "compare",
    "connect",
    "field",
    "func",
    "not_",
    "or_",
    "relationship",
    "to_typescript",
    "typed",
]
