/**
 * Where Mastra's records lie: which Convex table, under which key, and how a record becomes a document and is read back.
 *
 * The npm client names tables of three kinds: tables of their own type, `mastra_vector_<index>` for the vectors of one index, and
 * any other name for records of the documents table. An operation is written once, over a place.
 */
import type { GenericValidator, Value } from "convex/values";
import type { Catalog } from "../../orm/catalog";
import type { Bound, Document, Fields, Key, Step } from "../../orm/protocol";
import { fieldsOf } from "../../orm/transaction";
import { invalid, refusal } from "./errors";
import { answered, stored } from "./payloads";
import { statusOf } from "./snapshots";

export interface Place {
  readonly table: string;
  /** The range that holds all records of this place; null is the whole table, through whichever index fits a filter. */
  readonly range: { index: string; eq: Bound[] } | null;
  /** The vector index whose vectors the records are. */
  readonly indexName?: string;
  /** Where the field of a record is in its document. */
  at(field: string): { field: string; path?: Step[] };
  /** The key of the record with this id. Two documents under one key are different records. */
  keyOf(id: string): Key;
  /** The key that a record is stored under, which tells apart what an id may not. */
  keyOfRecord(record: Fields): Key;
  /** The document for a record that takes the place of `old` whole. Throws where `old` must not be replaced so. */
  documentOf(record: Fields, old: Document | null): Fields;
  /** The document that `old` becomes with some fields of its record changed. */
  changed(old: Document, changes: Fields): Fields;
  recordOf(document: Fields): Fields;
}

export const WORKFLOWS = "mastra_workflow_snapshots";
export const THREADS = "mastra_threads";
export const RESOURCES = "mastra_resources";
export const SCHEDULES = "mastra_schedules";
export const TRIGGERS = "mastra_schedule_triggers";
export const OBSERVATIONS = "mastra_observational_memory";
export const VECTOR_INDEXES = "mastra_vector_indexes";
const INSTALLATIONS = "mastra_channel_installations";
const VECTORS = "mastra_vectors";
const DOCUMENTS = "mastra_documents";
const VECTOR_PREFIX = "mastra_vector_";

/** Where the npm package's name of a table is not the table's. */
const NAMES: Record<string, string> = { mastra_workflow_snapshot: WORKFLOWS };

/** Tables with records of their own; whether each is there is for the schema to say. */
const TYPED: ReadonlySet<string> = new Set([
  THREADS,
  "mastra_messages",
  RESOURCES,
  WORKFLOWS,
  "mastra_scorers",
  SCHEDULES,
  TRIGGERS,
  INSTALLATIONS,
  "mastra_channel_config",
  "mastra_background_tasks",
  OBSERVATIONS,
  VECTOR_INDEXES,
]);

/** Fields of any value that the npm client writes as JSON text and reads as such. */
const TEXTS: ReadonlySet<string> = new Set(["content", "snapshot"]);

/** The Convex table that a name means, if it is one with a type of its own. */
export const typedTable = (name: string): string | null => {
  const table = Object.hasOwn(NAMES, name) ? NAMES[name]! : name;
  return TYPED.has(table) ? table : null;
};

export function placeOf(catalog: Catalog, name: string): Place {
  const table = typedTable(name);
  if (table !== null) return new TypedPlace(catalog, table);
  return name.startsWith(VECTOR_PREFIX)
    ? vectorsOf(catalog, name.slice(VECTOR_PREFIX.length))
    : new DocumentsPlace(name);
}

export const vectorsOf = (catalog: Catalog, indexName: string): Place => new VectorsPlace(catalog, indexName);

const byId = (id: string): Key => ({ index: "by_record_id", key: [[id]] });

/** A record's id; records are nothing without one. */
export function idOf(record: Fields): string {
  const id = record["id"];
  if (typeof id === "string" && id !== "") return id;
  if (typeof id === "number") return String(id);
  throw invalid("id of a record", "a text that is not empty");
}

/** What a table does beyond storing a record as it is. */
interface Habits {
  keyOfRecord?(record: Fields): Key;
  /** Completes the document of a record. */
  complete?(fields: Fields, old: Document | null): Fields;
  /** Completes a document of which some fields were changed. */
  completeChange?(fields: Fields, changes: Fields): Fields;
  /** The field with the time of the last change, which no clock that is behind sets back. */
  changedAt?: string;
  /** A record as it is answered. */
  answer?(record: Fields): Fields;
}

const keptCreation = (fields: Fields, old: Document | null): Fields =>
  old?.["createdAt"] === undefined ? fields : { ...fields, createdAt: old["createdAt"] };

const HABITS: Record<string, Habits> = {
  [WORKFLOWS]: {
    changedAt: "updatedAt",
    keyOfRecord: (record) => {
      const { workflow_name: workflow, run_id: run } = record;
      if (typeof workflow !== "string" || typeof run !== "string") return byId(idOf(record));
      return { index: "by_workflow_run", key: [[workflow], [run]] };
    },
    // A run keeps when it began and whose it is, however often and by whom it is written.
    complete: (fields, old) => {
      const kept = keptCreation(fields, old);
      const owned = kept["resourceId"] == null && old?.["resourceId"] != null;
      return withStatus(owned ? { ...kept, resourceId: old["resourceId"]! } : kept);
    },
  },
  [THREADS]: { changedAt: "updatedAt" },
  [RESOURCES]: { changedAt: "updatedAt" },
  [SCHEDULES]: { changedAt: "updated_at" },
  [OBSERVATIONS]: {
    changedAt: "updatedAt",
    completeChange: withoutClaims,
    // A client takes arrays only, and Convex none that are longer.
    answer: (record) => ({
      ...record,
      ...Object.fromEntries(LISTS.filter((name) => typeof record[name] === "string").map((name) => [name, lastOf(record[name]!)])),
    }),
  },
  [INSTALLATIONS]: { complete: keptCreation },
  [VECTOR_INDEXES]: {
    complete: (fields, old) => {
      if (old === null) return fields;
      const differs = ["dimension", "metric"].find((field) => old[field] !== fields[field]);
      if (differs === undefined) return fieldsOf(old);
      throw refusal("Conflict", `The vector index exists with another ${differs}.`, {
        indexName: String(old["indexName"]),
        field: differs,
        stored: old[differs] ?? null,
        given: fields[differs] ?? null,
      });
    },
  },
};

/** The status of a run stands beside its snapshot, for the indexes. */
function withStatus({ status: _stale, ...fields }: Fields): Fields {
  const status = statusOf(fields["snapshot"]);
  return status === undefined ? fields : { ...fields, status };
}

/** Lists that are JSON text where an array of Convex does not hold them. */
const LISTS = ["observedMessageIds", "bufferedMessageIds"];
const ANSWERED = 8_000;

function lastOf(text: Value): Value {
  try {
    return (JSON.parse(text as string) as string[]).slice(-ANSWERED);
  } catch {
    return [];
  }
}

/**
 * A flag of observational memory is a claim, whose owner and term stand beside it. Who sets the flag here has neither, so what is noted of
 * the claim before is not its own.
 */
function withoutClaims(fields: Fields, changes: Fields): Fields {
  const set = CLAIMS.filter(([name]) => name in changes).map(([, claim]) => claim);
  if (set.length === 0 || typeof fields["claims"] !== "string") return fields;
  const { claims, ...rest } = fields;
  let noted: Record<string, unknown>;
  try {
    noted = JSON.parse(claims) as Record<string, unknown>;
  } catch {
    return rest;
  }
  const left = Object.entries(noted ?? {}).filter(([claim]) => !set.includes(claim));
  return left.length === 0 ? rest : { ...rest, claims: JSON.stringify(Object.fromEntries(left)) };
}

const CLAIMS: [flag: string, claim: string][] = [
  ["isObserving", "is_observing"],
  ["isReflecting", "is_reflecting"],
  ["isBufferingObservation", "is_buffering_observation"],
  ["isBufferingReflection", "is_buffering_reflection"],
];

/** The later of two times; a moment after `old` where every change has to show. */
function latest(old: Value | undefined, time: Value, everyChangeShows: boolean): Value {
  if (old == null || time === null || typeof old !== typeof time || time > old) return time;
  if (!everyChangeShows) return old;
  const moment = Date.parse(String(old));
  return Number.isNaN(moment) ? time : new Date(moment + 1).toISOString();
}

class TypedPlace implements Place {
  readonly range = null;
  readonly #fields: Record<string, GenericValidator>;
  readonly #habits: Habits;

  constructor(
    catalog: Catalog,
    readonly table: string,
  ) {
    catalog.requireTable(table);
    const validator = catalog.validator(table);
    this.#fields = validator?.kind === "object" ? validator.fields : {};
    this.#habits = HABITS[table] ?? {};
  }

  at(field: string) {
    return { field };
  }

  keyOf(id: string): Key {
    return byId(id);
  }

  keyOfRecord(record: Fields): Key {
    return this.#habits.keyOfRecord?.(record) ?? byId(idOf(record));
  }

  documentOf(record: Fields, old: Document | null): Fields {
    const fields = Object.entries(ownFields(record)).filter(([name, value]) => !this.#isNoField(name, value));
    return this.#complete(Object.fromEntries(fields.map(([name, value]) => [name, this.#stored(name, value)])), old);
  }

  changed(old: Document, changes: Fields): Fields {
    const fields = fieldsOf(old);
    for (const [name, value] of Object.entries(ownFields(changes))) {
      if (name === "id") continue;
      if (this.#isNoField(name, value)) delete fields[name];
      else fields[name] = this.#stored(name, value);
    }
    const complete = this.#habits.completeChange?.(fields, changes) ?? fields;
    return this.#timed("snapshot" in changes ? withStatus(complete) : complete, old);
  }

  recordOf(document: Fields): Fields {
    const entries = Object.entries(document);
    const record = Object.fromEntries(
      entries.map(([name, value]) => [name, this.#isPayload(name) ? answered(name, value) : value]),
    );
    return this.#habits.answer?.(record) ?? record;
  }

  #complete(fields: Fields, old: Document | null): Fields {
    return this.#timed(this.#habits.complete?.(fields, old) ?? fields, old);
  }

  #timed(fields: Fields, old: Document | null): Fields {
    const name = this.#habits.changedAt;
    if (old === null || name === undefined || fields[name] === undefined) return fields;
    return { ...fields, [name]: latest(old[name], fields[name]!, this.table === OBSERVATIONS) };
  }

  #stored(name: string, value: Value): Value {
    return this.#isPayload(name) ? stored(name, value) : value;
  }

  #isPayload(name: string): boolean {
    return !TEXTS.has(name) && validatorOf(this.#fields, name)?.kind === "any";
  }

  /** Whether a null says that there is no such field: where the schema knows the field only absent or with a value. */
  #isNoField(name: string, value: Value): boolean {
    const validator = validatorOf(this.#fields, name);
    return value === null && validator?.isOptional === "optional" && !takesNull(validator);
  }
}

const validatorOf = (fields: Record<string, GenericValidator>, name: string): GenericValidator | undefined =>
  Object.hasOwn(fields, name) ? fields[name] : undefined;

function takesNull(validator: GenericValidator): boolean {
  if (validator.kind === "union") return validator.members.some(takesNull);
  return validator.kind === "null" || validator.kind === "any";
}

/** A record that a client has read before comes back with Convex's own fields. */
const ownFields = ({ _id, _creationTime, ...fields }: Fields): Fields => fields;

/** The vectors of one index. */
class VectorsPlace implements Place {
  readonly table = VECTORS;
  readonly range: { index: string; eq: Bound[] };

  constructor(
    catalog: Catalog,
    readonly indexName: string,
  ) {
    catalog.requireTable(VECTORS);
    this.range = { index: "by_index_id", eq: [[indexName]] };
  }

  at(field: string) {
    return { field };
  }

  keyOf(id: string): Key {
    return { index: "by_index_id", key: [[this.indexName], [id]] };
  }

  keyOfRecord(record: Fields): Key {
    return this.keyOf(idOf(record));
  }

  documentOf(record: Fields, old: Document | null): Fields {
    const { embedding, metadata } = record;
    // A client that has read metadata as text and merged into it would store its single letters.
    const isRead = record["_id"] !== undefined && typeof metadata === "object";
    if (isRead && typeof answered("metadata", old?.["metadata"] ?? null) === "string") {
      throw refusal("Unsupported", "A function cannot return this vector's metadata to be changed.", {
        id: idOf(record),
      });
    }
    return {
      id: idOf(record),
      indexName: this.indexName,
      ...(embedding === undefined ? {} : { embedding }),
      ...(metadata == null ? {} : { metadata: stored("metadata", metadata) }),
    };
  }

  changed(old: Document, { embedding, metadata }: Fields): Fields {
    const fields = fieldsOf(old);
    return {
      ...fields,
      ...(embedding === undefined ? {} : { embedding }),
      ...(metadata === undefined ? {} : { metadata: stored("metadata", metadata) }),
    };
  }

  recordOf(document: Fields): Fields {
    const { metadata } = document;
    return metadata === undefined ? document : { ...document, metadata: answered("metadata", metadata) };
  }
}

/** The records of a table that has no type of its own. */
class DocumentsPlace implements Place {
  readonly table = DOCUMENTS;
  readonly range: { index: string; eq: Bound[] };

  constructor(readonly name: string) {
    this.range = { index: "by_table_primary", eq: [[name]] };
  }

  at(field: string) {
    return { field: "record", path: [field] };
  }

  keyOf(id: string): Key {
    return { index: "by_table_primary", key: [[this.name], [id]] };
  }

  keyOfRecord(record: Fields): Key {
    return this.keyOf(idOf(record));
  }

  documentOf(record: Fields): Fields {
    return { table: this.name, primaryKey: idOf(record), record: stored("record", record) };
  }

  changed(old: Document, { id: _id, ...changes }: Fields): Fields {
    const record = answered("record", old["record"] ?? {});
    if (typeof record === "string") throw refusal("Unsupported", "A function cannot return this record to be changed.");
    return this.documentOf({ ...(record as Fields), ...changes });
  }

  recordOf(document: Fields): Fields {
    return answered("record", document["record"] ?? null) as Fields;
  }
}
