"""Mastra's storage contract in Python, over sessions of Convex entities.

A Python service and a TypeScript Mastra agent share one deployment: each reads what the other wrote.
"""

from mastra_convex.arguments import DateRange, Include, MessageFilter, OrderBy, ThreadFilter
from mastra_convex.entities import (
    BackgroundTask,
    CacheEntry,
    CacheListItem,
    ChannelConfig,
    ChannelInstallation,
    Document,
    Message,
    ObservationalMemory,
    Resource,
    Schedule,
    ScheduleTrigger,
    Score,
    Thread,
    Vector,
    VectorIndex,
    WorkflowSnapshot,
)
from mastra_convex.errors import InvalidArgument, MastraError, ThreadAlreadyExists, ThreadNotFound, UnknownStore
from mastra_convex.memory import (
    AsyncMemory,
    ClonedThread,
    CloneOptions,
    CopiedThread,
    CopyFilter,
    Memory,
    MessageList,
    MessagePage,
    ThreadPage,
)
from mastra_convex.store import AsyncConvexStore, ConvexStore, StoreOptions

__all__ = [
    "AsyncConvexStore",
    "AsyncMemory",
    "BackgroundTask",
    "CacheEntry",
    "CacheListItem",
    "ChannelConfig",
    "ChannelInstallation",
    "CloneOptions",
    "ClonedThread",
    "ConvexStore",
    "CopiedThread",
    "CopyFilter",
    "DateRange",
    "Document",
    "Include",
    "InvalidArgument",
    "MastraError",
    "Memory",
    "Message",
    "MessageFilter",
    "MessageList",
    "MessagePage",
    "ObservationalMemory",
    "OrderBy",
    "Resource",
    "Schedule",
    "ScheduleTrigger",
    "Score",
    "StoreOptions",
    "Thread",
    "ThreadAlreadyExists",
    "ThreadFilter",
    "ThreadNotFound",
    "ThreadPage",
    "UnknownStore",
    "Vector",
    "VectorIndex",
    "WorkflowSnapshot",
]
