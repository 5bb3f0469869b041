"""The tables that the npm package's handler keeps: the name each goes by there, and what its schema takes.

A field ends in `!` where the schema requires it, and in `?` where it takes null. Fields that our schema has beside these
are left out of what is written, and are missing in what is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from convexorm.errors import DeploymentError, IndexRangeError, ValidationError
from convexorm.requests import Document
from convexorm.schema import Table
from convexorm.values import MAX_ARRAY_LENGTH, Value

__all__ = ["DOCUMENTS", "TYPED", "VECTORS", "TypedTable", "check_index", "typed_table"]

DOCUMENTS = "mastra_documents"
"""Our name of the table of records without a type of their own."""
VECTORS = "mastra_vectors"
"""Our name of the table of vectors. The handler's is `mastra_vector_` and the name of one index."""


INDEXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "by_record_id": ("id",),
        "by_index_id": ("indexName", "id"),
        "by_table_primary": ("table", "primaryKey"),
        "by_workflow_run": ("workflow_name", "run_id"),
        "by_status_next_fire_at": ("status", "next_fire_at"),
        "by_schedule_actual": ("schedule_id", "actual_fire_at"),
        "by_lookup_key": ("lookupKey", "generationCount"),
    }
)
"""The indexes of the npm package's schema that operations of the handler go by. Any other range is evaluated here."""


def check_index(table: Table, index: str) -> None:
    """Raise IndexRangeError for an index that the model declares on other fields than the npm package's schema has."""
    assumed = table.declared_fields(index)
    deployed = INDEXES.get(index, assumed)
    if assumed != deployed:
        raise IndexRangeError(
            f"the model declares it on [{', '.join(assumed)}], the npm package's schema on [{', '.join(deployed)}]; "
            "nothing was read or written",
            table=table.name,
            index=index,
            fields=assumed,
        )


_LISTS = frozenset(("observedMessageIds", "bufferedMessageIds"))
"""Fields that hold an array there, where ours may be JSON text too."""


@attrs.frozen
class TypedTable:
    """One table. `defaults` stand for required fields that our entities may lack; `unsaid` are those that say nothing."""

    name: str
    fields: frozenset[str]
    required: frozenset[str]
    nullable: frozenset[str]
    defaults: Mapping[str, Value]
    unsaid: frozenset[str]

    def record(self, table: Table, document: Document) -> dict[str, Value]:
        """A document as the handler takes it. Raises ValidationError for one that its schema refuses."""
        record = {
            name: value
            for name, value in document.items()
            if name in self.fields and (value is not None or name in self.nullable)
        }
        for name, value in self.defaults.items():
            record.setdefault(name, value)
        for name in _LISTS & record.keys():
            if isinstance(record[name], str):
                raise ValidationError(
                    f"the npm package's schema takes up to {MAX_ARRAY_LENGTH} of them", table=table.name, field=name
                )
        missing = sorted(self.required - record.keys())
        if missing:
            raise ValidationError("required by the npm package's schema, and missing", table=table.name, field=missing[0])
        return record


def _table(name: str, fields: str, *, unsaid: tuple[str, ...] = (), **defaults: Value) -> TypedTable:
    words = fields.split()
    return TypedTable(
        name,
        frozenset(word.rstrip("!?") for word in words),
        frozenset(word.rstrip("!?") for word in words if "!" in word),
        frozenset(word.rstrip("!?") for word in words if "?" in word),
        MappingProxyType({**dict.fromkeys(unsaid, ""), **defaults}),
        frozenset(unsaid),
    )


TYPED: Mapping[str, TypedTable] = MappingProxyType(
    {
        "mastra_threads": _table("mastra_threads", "id! resourceId! title! metadata? createdAt! updatedAt!", title=""),
        "mastra_messages": _table(
            "mastra_messages", "id! thread_id! content! role! type! createdAt! resourceId", type="v2"
        ),
        "mastra_resources": _table("mastra_resources", "id! workingMemory metadata? createdAt! updatedAt!"),
        "mastra_workflow_snapshots": _table(
            "mastra_workflow_snapshot", "id! workflow_name! run_id! resourceId snapshot!? createdAt! updatedAt!"
        ),
        "mastra_scorers": _table(
            "mastra_scorers",
            "id! scorerId! traceId spanId runId! scorer!? preprocessStepResult? extractStepResult? analyzeStepResult? "
            "score! reason metadata? preprocessPrompt extractPrompt generateScorePrompt generateReasonPrompt analyzePrompt "
            "reasonPrompt input!? output!? additionalContext? requestContext? entityType entity? entityId source! "
            "resourceId threadId organizationId projectId batchId datasetId datasetItemId createdAt! updatedAt!",
            unsaid=("runId", "source"),
            scorer=None,
            input=None,
            output=None,
        ),
        "mastra_schedules": _table(
            "mastra_schedules",
            "id! target! cron! timezone? status! next_fire_at! last_fire_at? last_run_id? created_at! updated_at! "
            "metadata? owner_type? owner_id? workflow_id?",
        ),
        "mastra_schedule_triggers": _table(
            "mastra_schedule_triggers",
            "id! schedule_id! run_id? scheduled_fire_at! actual_fire_at! outcome! error? trigger_kind! parent_trigger_id? "
            "metadata?",
        ),
        "mastra_channel_installations": _table(
            "mastra_channel_installations",
            "id! platform! agentId! status! webhookId? data! configHash? error? createdAt! updatedAt!",
        ),
        "mastra_channel_config": _table("mastra_channel_config", "id! platform! data! updatedAt!"),
        "mastra_background_tasks": _table(
            "mastra_background_tasks",
            "id! tool_call_id! tool_name! agent_id! run_id! thread_id!? resource_id!? status! args! result!? error!? "
            "suspend_payload!? retry_count! max_retries! timeout_ms! createdAt! startedAt!? suspendedAt!? completedAt!?",
        ),
        "mastra_observational_memory": _table(
            "mastra_observational_memory",
            "id! lookupKey! scope! resourceId? threadId? activeObservations! activeObservationsPendingUpdate? originType! "
            "config! generationCount! lastObservedAt? lastReflectionAt? pendingMessageTokens! totalTokensObserved! "
            "observationTokenCount! isObserving! isReflecting! observedMessageIds? observedTimezone? bufferedObservations? "
            "bufferedObservationTokens? bufferedMessageIds? bufferedReflection? bufferedReflectionTokens? "
            "bufferedReflectionInputTokens? reflectedObservationLineCount? bufferedObservationChunks? "
            "isBufferingObservation! isBufferingReflection! lastBufferedAtTokens! lastBufferedAtTime? metadata? createdAt! "
            "updatedAt!",
        ),
        "mastra_vector_indexes": _table("mastra_vector_indexes", "id! indexName! dimension! metric! createdAt!"),
    }
)
"""By our names."""


def typed_table(table: Table) -> TypedTable:
    """The table as the handler keeps it. Raises DeploymentError for one that it does not reach, by this name."""
    found = TYPED.get(table.name)
    if found is None:
        raise DeploymentError(
            f"the npm package's storage handler does not reach table {table.name!r}. Copy this library's functions into "
            "the Convex project with `python -m convexorm functions convex`, then deploy them with `npx convex deploy`"
        )
    return found
