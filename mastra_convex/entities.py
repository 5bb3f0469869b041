"""The entities behind Mastra's storage: the tables that `@mastra/convex` uses, with every index our queries need.

Attributes are Python's, field names on the wire are the npm package's. `id` is the Mastra record id, beside Convex's `_id`.
The schema is a superset of what the npm package's handler and its early README declare: fields on which those two differ
are optional. Timestamps are JavaScript ISO strings unless a column says otherwise. Columns of JSON text hold what Convex
values cannot (any keys, any nesting); `metadata` and a score's payloads are Convex values where Convex can hold them, JSON
text where it cannot, and both are read. A score's payloads may be texts themselves, so their JSON text carries a mark.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from convexorm import Index, IsoDatetime, Mapped, Model, field
from convexorm.schema import AnyValue
from convexorm.types import JsonTextType, JsonType, MarkedJsonType
from mastra_convex.chunks import BufferedObservationChunk, ChunksType
from mastra_convex.targets import TargetType
from mastra_convex.texts import TextsType

__all__ = [
    "BackgroundTask",
    "CacheEntry",
    "CacheListItem",
    "ChannelConfig",
    "ChannelInstallation",
    "Document",
    "Message",
    "ObservationalMemory",
    "Resource",
    "Schedule",
    "ScheduleTrigger",
    "Score",
    "Thread",
    "Vector",
    "VectorChange",
    "VectorIndex",
    "WorkflowSnapshot",
]

TaskStatus: TypeAlias = Literal["pending", "running", "suspended", "completed", "failed", "cancelled", "timed_out"]
"""Where a background task stands."""

_JSON = JsonType()
_PAYLOAD = MarkedJsonType()
"""A value that may be a text: JSON text is told from it by a mark."""
_TEXT = JsonTextType()
_ANY_TEXT = JsonTextType(AnyValue())
"""JSON text that other writers may have stored as a Convex value."""


class Thread(Model, table="mastra_threads", primary_key="id"):
    """A conversation."""

    id: Mapped[str] = field(optional=True)
    resource_id: Mapped[str] = field(name="resourceId")
    title: Mapped[str | None] = field(default=None)
    metadata: Mapped[dict[str, Any] | None] = field(type=_JSON, none="either", default=None)
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    updated_at: Mapped[IsoDatetime] = field(name="updatedAt")

    by_record_id = Index("id")
    by_resource = Index("resource_id")
    by_created = Index("created_at")
    by_updated = Index("updated_at")
    by_resource_created = Index("resource_id", "created_at")
    by_resource_updated = Index("resource_id", "updated_at")


class Message(Model, table="mastra_messages", primary_key="id"):
    """A message of a thread. `content` is any JSON value: usually `{"format": 2, "parts": [...], "metadata": {...}}`."""

    id: Mapped[str] = field(optional=True)
    thread_id: Mapped[str] = field(optional=True)
    content: Mapped[Any] = field(type=_ANY_TEXT)
    role: Mapped[str]
    type: Mapped[str] = field(optional=True, default="v2")
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    resource_id: Mapped[str | None] = field(name="resourceId", none="either", default=None)
    other_thread_id: Mapped[str | None] = field(name="threadId", default=None)

    by_record_id = Index("id")
    by_thread = Index("thread_id")
    by_thread_created = Index("thread_id", "created_at")
    by_resource = Index("resource_id")
    by_resource_created = Index("resource_id", "created_at")


class Resource(Model, table="mastra_resources", primary_key="id"):
    """What is remembered of a user, or whatever owns threads."""

    id: Mapped[str] = field(optional=True)
    working_memory: Mapped[str | None] = field(name="workingMemory", none="either", default=None)
    metadata: Mapped[dict[str, Any] | None] = field(type=_JSON, none="either", default=None)
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    updated_at: Mapped[IsoDatetime] = field(name="updatedAt")

    by_record_id = Index("id")
    by_updated = Index("updated_at")


class WorkflowSnapshot(Model, table="mastra_workflow_snapshots", primary_key=("workflow_name", "run_id")):
    """The state of a workflow run. `snapshot` is JSON. A run is found by `workflow_name` and `run_id`, never by `id`.

    `status` is the snapshot's, kept beside it for the indexes by whoever writes the snapshot; the npm package's own
    functions leave it out.
    """

    id: Mapped[str | None] = field(default=None)
    workflow_name: Mapped[str] = field(optional=True)
    run_id: Mapped[str] = field(optional=True)
    resource_id: Mapped[str | None] = field(name="resourceId", none="either", default=None)
    snapshot: Mapped[Any] = field(type=_ANY_TEXT)
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    updated_at: Mapped[IsoDatetime] = field(name="updatedAt")
    other_workflow_name: Mapped[str | None] = field(name="workflowName", default=None)
    other_run_id: Mapped[str | None] = field(name="runId", default=None)
    status: Mapped[str | None] = field(default=None)

    by_record_id = Index("id")
    by_workflow_run = Index("workflow_name", "run_id")
    by_workflow = Index("workflow_name")
    by_resource = Index("resource_id")
    by_created = Index("created_at")
    by_run = Index("run_id", "created_at")
    by_workflow_created = Index("workflow_name", "created_at")
    by_workflow_status_created = Index("workflow_name", "status", "created_at")
    by_status_created = Index("status", "created_at")
    by_resource_created = Index("resource_id", "created_at")


class Score(Model, table="mastra_scorers", primary_key="id"):
    """A scorer's judgement of one run. An explicit null is refused by the npm package's schema, so None is no field."""

    id: Mapped[str] = field(optional=True)
    scorer_id: Mapped[str] = field(name="scorerId")
    entity_id: Mapped[str | None] = field(name="entityId", default=None)
    entity_type: Mapped[str | None] = field(name="entityType", default=None)
    entity: Mapped[Any | None] = field(type=_PAYLOAD, default=None)
    run_id: Mapped[str | None] = field(name="runId", default=None)
    trace_id: Mapped[str | None] = field(name="traceId", default=None)
    span_id: Mapped[str | None] = field(name="spanId", default=None)
    scorer: Mapped[Any | None] = field(type=_PAYLOAD, default=None)
    score: Mapped[float | None] = field(default=None)
    reason: Mapped[str | None] = field(default=None)
    source: Mapped[str | None] = field(default=None)
    input: Mapped[Any | None] = field(type=_PAYLOAD, default=None)
    output: Mapped[Any | None] = field(type=_PAYLOAD, default=None)
    metadata: Mapped[dict[str, Any] | None] = field(type=_JSON, default=None)
    additional_context: Mapped[Any | None] = field(type=_PAYLOAD, name="additionalContext", default=None)
    request_context: Mapped[Any | None] = field(type=_PAYLOAD, name="requestContext", default=None)
    preprocess_step_result: Mapped[Any | None] = field(type=_PAYLOAD, name="preprocessStepResult", default=None)
    extract_step_result: Mapped[Any | None] = field(type=_PAYLOAD, name="extractStepResult", default=None)
    analyze_step_result: Mapped[Any | None] = field(type=_PAYLOAD, name="analyzeStepResult", default=None)
    preprocess_prompt: Mapped[str | None] = field(name="preprocessPrompt", default=None)
    extract_prompt: Mapped[str | None] = field(name="extractPrompt", default=None)
    analyze_prompt: Mapped[str | None] = field(name="analyzePrompt", default=None)
    reason_prompt: Mapped[str | None] = field(name="reasonPrompt", default=None)
    generate_score_prompt: Mapped[str | None] = field(name="generateScorePrompt", default=None)
    generate_reason_prompt: Mapped[str | None] = field(name="generateReasonPrompt", default=None)
    structured_output: Mapped[bool | None] = field(name="structuredOutput", default=None)
    agent_name: Mapped[str | None] = field(name="agentName", default=None)
    resource_id: Mapped[str | None] = field(name="resourceId", default=None)
    thread_id: Mapped[str | None] = field(name="threadId", default=None)
    organization_id: Mapped[str | None] = field(name="organizationId", default=None)
    project_id: Mapped[str | None] = field(name="projectId", default=None)
    batch_id: Mapped[str | None] = field(name="batchId", default=None)
    dataset_id: Mapped[str | None] = field(name="datasetId", default=None)
    dataset_item_id: Mapped[str | None] = field(name="datasetItemId", default=None)
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    updated_at: Mapped[IsoDatetime] = field(name="updatedAt")

    by_record_id = Index("id")
    by_scorer = Index("scorer_id")
    by_entity = Index("entity_id", "entity_type")
    by_run = Index("run_id")
    by_created = Index("created_at")
    by_scorer_created = Index("scorer_id", "created_at")
    by_entity_created = Index("entity_id", "entity_type", "created_at")
    by_run_created = Index("run_id", "created_at")
    by_span_created = Index("trace_id", "span_id", "created_at")


class Schedule(Model, table="mastra_schedules", primary_key="id"):
    """When a workflow or an agent runs. Times are JavaScript milliseconds; `target` and `metadata` are JSON text."""

    id: Mapped[str]
    target: Mapped[Any] = field(type=TargetType())
    cron: Mapped[str]
    timezone: Mapped[str | None] = field(none="null", optional=True, default=None)
    status: Mapped[str]
    next_fire_at: Mapped[int]
    last_fire_at: Mapped[int | None] = field(none="null", optional=True, default=None)
    last_run_id: Mapped[str | None] = field(none="null", optional=True, default=None)
    created_at: Mapped[int]
    updated_at: Mapped[int]
    metadata: Mapped[dict[str, Any] | None] = field(type=_TEXT, none="null", optional=True, default=None)
    owner_type: Mapped[str | None] = field(none="null", optional=True, default=None)
    owner_id: Mapped[str | None] = field(none="null", optional=True, default=None)
    workflow_id: Mapped[str | None] = field(none="null", optional=True, default=None)

    by_record_id = Index("id")
    by_status_next_fire_at = Index("status", "next_fire_at")
    by_workflow_status = Index("workflow_id", "status")
    by_workflow_id = Index("workflow_id")
    by_owner = Index("owner_type", "owner_id")
    by_owner_id = Index("owner_id")
    by_created = Index("created_at")


class ScheduleTrigger(Model, table="mastra_schedule_triggers", primary_key="id"):
    """One firing of a schedule. Times are JavaScript milliseconds; `metadata` is JSON text."""

    id: Mapped[str]
    schedule_id: Mapped[str]
    run_id: Mapped[str | None] = field(none="null", optional=True, default=None)
    scheduled_fire_at: Mapped[int]
    actual_fire_at: Mapped[int]
    outcome: Mapped[str]
    error: Mapped[str | None] = field(none="null", optional=True, default=None)
    trigger_kind: Mapped[str]
    parent_trigger_id: Mapped[str | None] = field(none="null", optional=True, default=None)
    metadata: Mapped[dict[str, Any] | None] = field(type=_TEXT, none="null", optional=True, default=None)

    by_record_id = Index("id")
    by_schedule_actual = Index("schedule_id", "actual_fire_at")
    by_parent_trigger = Index("parent_trigger_id")


class ChannelInstallation(Model, table="mastra_channel_installations", primary_key="id"):
    """An agent's app on a platform. `data` is JSON text."""

    id: Mapped[str]
    platform: Mapped[str]
    agent_id: Mapped[str] = field(name="agentId")
    status: Mapped[str]
    webhook_id: Mapped[str | None] = field(name="webhookId", none="null", optional=True, default=None)
    data: Mapped[Any] = field(type=_TEXT)
    config_hash: Mapped[str | None] = field(name="configHash", none="null", optional=True, default=None)
    error: Mapped[str | None] = field(none="null", optional=True, default=None)
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    updated_at: Mapped[IsoDatetime] = field(name="updatedAt")

    by_record_id = Index("id")
    by_webhook = Index("webhook_id")
    by_webhook_updated = Index("webhook_id", "updated_at")
    by_webhook_status_updated = Index("webhook_id", "status", "updated_at")
    by_platform_agent = Index("platform", "agent_id")
    by_platform_agent_status_updated = Index("platform", "agent_id", "status", "updated_at")
    by_platform = Index("platform")


class ChannelConfig(Model, table="mastra_channel_config", primary_key="id"):
    """A platform's configuration; `id` is the platform. `data` is JSON text."""

    id: Mapped[str]
    platform: Mapped[str]
    data: Mapped[Any] = field(type=_TEXT)
    updated_at: Mapped[IsoDatetime] = field(name="updatedAt")

    by_record_id = Index("id")
    by_platform = Index("platform")


class BackgroundTask(Model, table="mastra_background_tasks", primary_key="id"):
    """A tool call that goes on behind the agent. Nullable fields are present as null; payloads are JSON text."""

    id: Mapped[str]
    tool_call_id: Mapped[str]
    tool_name: Mapped[str]
    agent_id: Mapped[str]
    run_id: Mapped[str]
    thread_id: Mapped[str | None] = field(none="null", default=None)
    resource_id: Mapped[str | None] = field(none="null", default=None)
    status: Mapped[TaskStatus]
    args: Mapped[Any] = field(type=_TEXT)
    result: Mapped[Any | None] = field(type=_TEXT, none="null", default=None)
    error: Mapped[Any | None] = field(type=_TEXT, none="null", default=None)
    suspend_payload: Mapped[Any | None] = field(type=_TEXT, none="null", default=None)
    retry_count: Mapped[int]
    max_retries: Mapped[int]
    timeout_ms: Mapped[float]
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    started_at: Mapped[IsoDatetime | None] = field(name="startedAt", none="null", default=None)
    suspended_at: Mapped[IsoDatetime | None] = field(name="suspendedAt", none="null", default=None)
    completed_at: Mapped[IsoDatetime | None] = field(name="completedAt", none="null", default=None)

    by_record_id = Index("id")
    by_status_created = Index("status", "created_at")
    by_agent_status = Index("agent_id", "status")
    by_run = Index("run_id")
    by_tool_call = Index("tool_call_id")
    by_thread = Index("thread_id")
    by_resource = Index("resource_id")
    by_tool = Index("tool_name")
    by_created = Index("created_at")
    by_status_started = Index("status", "started_at")
    by_status_suspended = Index("status", "suspended_at")
    by_status_completed = Index("status", "completed_at")
    by_agent_created = Index("agent_id", "created_at")
    by_agent_status_created = Index("agent_id", "status", "created_at")
    by_thread_created = Index("thread_id", "created_at")
    by_resource_created = Index("resource_id", "created_at")
    by_tool_created = Index("tool_name", "created_at")
    by_status_tool_created = Index("status", "tool_name", "created_at")


class ObservationalMemory(Model, table="mastra_observational_memory", primary_key="id"):
    """One generation of what was observed in a thread or of a resource; config, metadata and chunks are JSON text.

    `claims` says for each flag that is True whose claim it is and when that ends; `activated_cycle_ids` are the cycles
    whose chunks became active last. The npm package's own functions keep neither.
    """

    id: Mapped[str]
    lookup_key: Mapped[str] = field(name="lookupKey")
    scope: Mapped[str]
    resource_id: Mapped[str | None] = field(name="resourceId", none="either", default=None)
    thread_id: Mapped[str | None] = field(name="threadId", none="either", default=None)
    active_observations: Mapped[str] = field(name="activeObservations")
    active_observations_pending_update: Mapped[str | None] = field(
        name="activeObservationsPendingUpdate", none="either", default=None
    )
    origin_type: Mapped[str] = field(name="originType")
    config: Mapped[Any] = field(type=_TEXT)
    generation_count: Mapped[int] = field(name="generationCount")
    last_observed_at: Mapped[IsoDatetime | None] = field(name="lastObservedAt", none="either", default=None)
    last_reflection_at: Mapped[IsoDatetime | None] = field(name="lastReflectionAt", none="either", default=None)
    pending_message_tokens: Mapped[float] = field(name="pendingMessageTokens")
    total_tokens_observed: Mapped[float] = field(name="totalTokensObserved")
    observation_token_count: Mapped[float] = field(name="observationTokenCount")
    is_observing: Mapped[bool] = field(name="isObserving")
    is_reflecting: Mapped[bool] = field(name="isReflecting")
    observed_message_ids: Mapped[list[str] | None] = field(
        type=TextsType(), name="observedMessageIds", none="either", default=None
    )
    observed_timezone: Mapped[str | None] = field(name="observedTimezone", none="either", default=None)
    buffered_observations: Mapped[str | None] = field(name="bufferedObservations", none="either", default=None)
    buffered_observation_tokens: Mapped[float | None] = field(name="bufferedObservationTokens", none="either", default=None)
    buffered_message_ids: Mapped[list[str] | None] = field(
        type=TextsType(), name="bufferedMessageIds", none="either", default=None
    )
    buffered_reflection: Mapped[str | None] = field(name="bufferedReflection", none="either", default=None)
    buffered_reflection_tokens: Mapped[float | None] = field(name="bufferedReflectionTokens", none="either", default=None)
    buffered_reflection_input_tokens: Mapped[float | None] = field(
        name="bufferedReflectionInputTokens", none="either", default=None
    )
    reflected_observation_line_count: Mapped[float | None] = field(
        name="reflectedObservationLineCount", none="either", default=None
    )
    buffered_observation_chunks: Mapped[list[BufferedObservationChunk] | None] = field(
        type=ChunksType(), name="bufferedObservationChunks", none="either", default=None
    )
    is_buffering_observation: Mapped[bool] = field(name="isBufferingObservation")
    is_buffering_reflection: Mapped[bool] = field(name="isBufferingReflection")
    last_buffered_at_tokens: Mapped[float] = field(name="lastBufferedAtTokens")
    last_buffered_at_time: Mapped[IsoDatetime | None] = field(name="lastBufferedAtTime", none="either", default=None)
    metadata: Mapped[dict[str, Any] | None] = field(type=_TEXT, none="either", default=None)
    claims: Mapped[dict[str, Any] | None] = field(type=_TEXT, default=None)
    activated_cycle_ids: Mapped[list[str] | None] = field(type=_TEXT, name="activatedCycleIds", default=None)
    created_at: Mapped[IsoDatetime] = field(name="createdAt")
    updated_at: Mapped[IsoDatetime] = field(name="updatedAt")

    by_record_id = Index("id")
    by_lookup_key = Index("lookup_key", "generation_count")
    by_lookup_owner = Index("lookup_key", "resource_id", "generation_count")


class VectorIndex(Model, table="mastra_vector_indexes", primary_key="id"):
    """A named set of vectors of one dimension; `id` is its name."""

    id: Mapped[str] = field(optional=True)
    index_name: Mapped[str] = field(name="indexName")
    dimension: Mapped[int]
    metric: Mapped[str]
    created_at: Mapped[IsoDatetime] = field(name="createdAt")

    by_record_id = Index("id")
    by_name = Index("index_name")


class Vector(Model, table="mastra_vectors", primary_key=("index_name", "id")):
    """One vector of an index, known by `index_name` and `id`."""

    id: Mapped[str]
    index_name: Mapped[str] = field(name="indexName")
    embedding: Mapped[list[float]]
    metadata: Mapped[dict[str, Any] | None] = field(type=_JSON, none="either", default=None)

    by_index_id = Index("index_name", "id")
    by_index = Index("index_name")


class VectorChange(Model, table="mastra_vectors_changes"):
    """Vectors that a commit on Convex has changed, by `_id`: the log that the functions there keep of `mastra_vectors`."""

    index_name: Mapped[str] = field(name="indexName")
    ids: Mapped[list[str]]

    by_key = Index("index_name")


class CacheEntry(Model, table="mastra_cache", primary_key=("key", "key_prefix")):
    """A value, a counter, or the head of a list in the server cache. `value` is JSON text, `expires_at` milliseconds.

    `partner` is the key of the counter of a list's indexes, and the list's key with that counter.
    `key` begins with `key_prefix`, which is told from others by itself: "t" and "1x" make the key of "t1" and "x".
    """

    key: Mapped[str]
    key_prefix: Mapped[str] = field(name="keyPrefix")
    kind: Mapped[Literal["value", "list", "counter", "deleted"]]
    value: Mapped[Any | None] = field(type=_TEXT, default=None)
    counter: Mapped[float | None] = field(default=None)
    partner: Mapped[str | None] = field(default=None)
    expires_at: Mapped[float | None] = field(name="expiresAt", none="null", default=None)

    by_key = Index("key")
    by_key_prefix = Index("key_prefix")
    by_key_and_prefix = Index("key", "key_prefix")


class CacheListItem(Model, table="mastra_cache_list_items"):
    """One element of a list in the server cache. `value` is JSON text."""

    key: Mapped[str]
    key_prefix: Mapped[str] = field(name="keyPrefix")
    index: Mapped[int]
    value: Mapped[Any] = field(type=_TEXT)

    by_key_prefix = Index("key_prefix")
    by_key_index = Index("key", "index")


class Document(Model, table="mastra_documents", primary_key=("table", "record_key")):
    """A record of any table without a type of its own; `record_key` is its id as text."""

    table: Mapped[str]
    record_key: Mapped[str] = field(name="primaryKey")
    record: Mapped[Any] = field(type=_JSON)

    by_table = Index("table")
    by_table_primary = Index("table", "record_key")
