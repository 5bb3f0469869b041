"""The schema: what is deployed is what the entities say, and holds what the npm package and its early README declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mastra_convex.entities as entities
from convexorm.__main__ import main, models_of
from convexorm.errors import ValidationError

ROOT = Path(__file__).parents[2]
TABLES = {model.__mapper__.table.name: model.__mapper__.table for model in models_of("mastra_convex.entities")}

NPM_FIELDS = {
    "mastra_threads": "id:s resourceId:s title:s metadata:any? createdAt:s updatedAt:s",
    "mastra_messages": "id:s thread_id:s content:s role:s type:s createdAt:s resourceId:s?",
    "mastra_resources": "id:s workingMemory:s? metadata:any? createdAt:s updatedAt:s",
    "mastra_workflow_snapshots": "id:s? workflow_name:s run_id:s resourceId:s? snapshot:any createdAt:s updatedAt:s",
    "mastra_scorers": (
        "id:s scorerId:s traceId:s? spanId:s? runId:s scorer:any preprocessStepResult:any? extractStepResult:any? "
        "analyzeStepResult:any? score:n reason:s? metadata:any? preprocessPrompt:s? extractPrompt:s? "
        "generateScorePrompt:s? generateReasonPrompt:s? analyzePrompt:s? reasonPrompt:s? input:any output:any "
        "additionalContext:any? requestContext:any? entityType:s? entity:any? entityId:s? source:s resourceId:s? "
        "threadId:s? organizationId:s? projectId:s? batchId:s? datasetId:s? datasetItemId:s? createdAt:s updatedAt:s"
    ),
    "mastra_schedules": (
        "id:s target:s cron:s timezone:s|null? status:s next_fire_at:n last_fire_at:n|null? last_run_id:s|null? "
        "created_at:n updated_at:n metadata:s|null? owner_type:s|null? owner_id:s|null? workflow_id:s|null?"
    ),
    "mastra_schedule_triggers": (
        "id:s schedule_id:s run_id:s|null? scheduled_fire_at:n actual_fire_at:n outcome:s error:s|null? trigger_kind:s "
        "parent_trigger_id:s|null? metadata:s|null?"
    ),
    "mastra_channel_installations": (
        "id:s platform:s agentId:s status:s webhookId:s|null? data:s configHash:s|null? error:s|null? createdAt:s "
        "updatedAt:s"
    ),
    "mastra_channel_config": "id:s platform:s data:s updatedAt:s",
    "mastra_background_tasks": (
        "id:s tool_call_id:s tool_name:s agent_id:s run_id:s thread_id:s|null resource_id:s|null "
        "status:pending|running|suspended|completed|failed|cancelled|timed_out args:s result:s|null error:s|null "
        "suspend_payload:s|null retry_count:n max_retries:n timeout_ms:n createdAt:s startedAt:s|null suspendedAt:s|null "
        "completedAt:s|null"
    ),
    "mastra_observational_memory": (
        "id:s lookupKey:s scope:s resourceId:s|null? threadId:s|null? activeObservations:s "
        "activeObservationsPendingUpdate:s|null? originType:s config:s generationCount:n lastObservedAt:s|null? "
        "lastReflectionAt:s|null? pendingMessageTokens:n totalTokensObserved:n observationTokenCount:n isObserving:b "
        "isReflecting:b observedMessageIds:[s]|null? observedTimezone:s|null? bufferedObservations:s|null? "
        "bufferedObservationTokens:n|null? bufferedMessageIds:[s]|null? bufferedReflection:s|null? "
        "bufferedReflectionTokens:n|null? bufferedReflectionInputTokens:n|null? reflectedObservationLineCount:n|null? "
        "bufferedObservationChunks:s|null? isBufferingObservation:b isBufferingReflection:b lastBufferedAtTokens:n "
        "lastBufferedAtTime:s|null? metadata:s|null? createdAt:s updatedAt:s"
    ),
    "mastra_vector_indexes": "id:s indexName:s dimension:n metric:s createdAt:s",
    "mastra_vectors": "id:s indexName:s embedding:[n] metadata:any?",
    "mastra_cache": "key:s keyPrefix:s kind:value|list|counter|deleted value:s? counter:n? expiresAt:n|null",
    "mastra_cache_list_items": "key:s keyPrefix:s index:n value:s",
    "mastra_documents": "table:s primaryKey:s record:any",
}
"""The npm package's tables: each field with what it may hold (strings, numbers, booleans, some words), `?` if optional."""

NPM_INDEXES = {
    "mastra_threads": "by_record_id(id) by_resource(resourceId) by_created(createdAt) by_updated(updatedAt)",
    "mastra_messages": (
        "by_record_id(id) by_thread(thread_id) by_thread_created(thread_id,createdAt) by_resource(resourceId)"
    ),
    "mastra_resources": "by_record_id(id) by_updated(updatedAt)",
    "mastra_workflow_snapshots": (
        "by_record_id(id) by_workflow_run(workflow_name,run_id) by_workflow(workflow_name) by_resource(resourceId) "
        "by_created(createdAt)"
    ),
    "mastra_scorers": (
        "by_record_id(id) by_scorer(scorerId) by_entity(entityId,entityType) by_run(runId) by_created(createdAt)"
    ),
    "mastra_schedules": (
        "by_record_id(id) by_status_next_fire_at(status,next_fire_at) by_workflow_status(workflow_id,status) "
        "by_workflow_id(workflow_id) by_owner(owner_type,owner_id) by_owner_id(owner_id) by_created(created_at)"
    ),
    "mastra_schedule_triggers": (
        "by_record_id(id) by_schedule_actual(schedule_id,actual_fire_at) by_parent_trigger(parent_trigger_id)"
    ),
    "mastra_channel_installations": (
        "by_record_id(id) by_webhook(webhookId) by_platform_agent(platform,agentId) by_platform(platform)"
    ),
    "mastra_channel_config": "by_record_id(id) by_platform(platform)",
    "mastra_background_tasks": (
        "by_record_id(id) by_status_created(status,createdAt) by_agent_status(agent_id,status) by_run(run_id) "
        "by_tool_call(tool_call_id) by_thread(thread_id) by_resource(resource_id) by_tool(tool_name) by_created(createdAt)"
    ),
    "mastra_observational_memory": "by_record_id(id) by_lookup_key(lookupKey,generationCount)",
    "mastra_vector_indexes": "by_record_id(id) by_name(indexName)",
    "mastra_vectors": "by_index_id(indexName,id) by_index(indexName)",
    "mastra_cache": "by_key(key) by_key_prefix(keyPrefix)",
    "mastra_cache_list_items": "by_key_prefix(keyPrefix) by_key_index(key,index)",
    "mastra_documents": "by_table(table) by_table_primary(table,primaryKey)",
}

EARLY_README = {
    "mastra_threads": "resourceId:s title:s? metadata:any? createdAt:s updatedAt:s",
    "mastra_messages": "threadId:s resourceId:s? role:s content:any createdAt:s",
    "mastra_resources": "workingMemory:s? metadata:any? createdAt:s updatedAt:s",
    "mastra_workflow_snapshots": "workflowName:s runId:s snapshot:any createdAt:s updatedAt:s",
    "mastra_scorers": "scorerId:s agentName:s? runId:s? score:n? reason:s? metadata:any? createdAt:s updatedAt:s",
    "mastra_vector_indexes": "indexName:s dimension:n metric:s createdAt:s",
}
"""What it names differently: no `id`, other names for the thread and the run, an agent's name on scores."""


def _samples(kinds: str) -> list[Any]:
    """Values of every kind a field may hold."""
    known: dict[str, Any] = {"s": "text", "n": 1.5, "b": True, "null": None, "[s]": ["text"], "[n]": [0.5, 1.0]}
    return [known.get(kind, kind) if kind != "any" else {"a": [1.0, None]} for kind in kinds.split("|")]


def _documents(fields: str) -> list[dict[str, Any]]:
    """The least document, the fullest one, and one for every value a field may hold."""
    parts = [field.split(":") for field in fields.split()]
    least = {name: _samples(kind)[0] for name, kind in parts if not kind.endswith("?")}
    full = {name: _samples(kind.rstrip("?"))[0] for name, kind in parts}
    each = [{**full, name: value} for name, kind in parts for value in _samples(kind.rstrip("?"))]
    return [least, full, *each]


def test_the_deployed_schema_says_what_the_entities_say(capsys: pytest.CaptureFixture[str]) -> None:
    tables = ROOT / "convex" / "mastra" / "tables.ts"
    status = main(["schema", "mastra_convex.entities", "--fragment", "mastraTables", "--out", str(tables), "--check"])
    assert status == 0, capsys.readouterr().err


def test_there_is_an_entity_for_every_table() -> None:
    ours = {entities.VectorChange.__mapper__.table.name}  # which the npm package does not know
    assert set(TABLES) == set(NPM_FIELDS) | ours == set(NPM_INDEXES) | ours
    assert {getattr(entities, name).__mapper__.table.name for name in entities.__all__} == set(TABLES)


@pytest.mark.parametrize("name", NPM_FIELDS)
def test_a_table_holds_every_document_of_the_npm_package(name: str) -> None:
    for document in _documents(NPM_FIELDS[name]):
        TABLES[name].check(document)


@pytest.mark.parametrize("name", EARLY_README)
def test_a_table_holds_every_document_of_the_early_readme(name: str) -> None:
    for document in _documents(EARLY_README[name]):
        TABLES[name].check(document)


@pytest.mark.parametrize("name", NPM_INDEXES)
def test_a_table_has_every_index_of_the_npm_package(name: str) -> None:
    declared = {index.name: index.fields for index in TABLES[name].indexes}
    for index in NPM_INDEXES[name].split():
        index_name, fields = index.rstrip(")").split("(")
        assert declared[index_name] == tuple(fields.split(","))


def test_scores_refuse_an_explicit_null_as_the_npm_package_does() -> None:
    (least, *_) = _documents(NPM_FIELDS["mastra_scorers"])
    with pytest.raises(ValidationError):
        TABLES["mastra_scorers"].check({**least, "reason": None})
