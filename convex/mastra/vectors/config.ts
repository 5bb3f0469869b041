/**
 * What the npm client says about an index with every call: its table, and the names of the fields and indexes there.
 */
import { v, type Infer, type Value } from "convex/values";
import type { Fields } from "../../orm/protocol";
import { refusal } from "../storage/errors";
import { payload, stored } from "../storage/payloads";

export const config = v.object({
  tableName: v.string(),
  vectorIndexName: v.string(),
  dimension: v.optional(v.number()),
  idField: v.optional(v.string()),
  idIndexName: v.optional(v.string()),
  vectorField: v.optional(v.string()),
  metadataField: v.optional(v.string()),
  filterFields: v.optional(v.array(v.string())),
});

export type Config = Infer<typeof config>;

/** The same with every name given. */
export class Index {
  readonly table: string;
  readonly vectorIndex: string;
  readonly id: string;
  readonly idIndex: string;
  readonly vector: string;
  readonly metadata: string;
  readonly filterFields: readonly string[];
  readonly #dimension: number | undefined;

  constructor(given: Config) {
    this.table = given.tableName;
    this.vectorIndex = given.vectorIndexName;
    this.id = given.idField ?? "id";
    this.idIndex = given.idIndexName ?? "by_record_id";
    this.vector = given.vectorField ?? "embedding";
    this.metadata = given.metadataField ?? "metadata";
    this.filterFields = given.filterFields ?? [];
    this.#dimension = given.dimension;
  }

  requireDimension(vector: readonly number[]): void {
    if (this.#dimension === undefined || vector.length === this.#dimension) return;
    throw refusal("Invalid", `The vector index has ${this.#dimension} dimensions, the vector ${vector.length}.`, {
      dimension: this.#dimension,
      actual: vector.length,
    });
  }

  /** The fields that hold metadata: all of it, and those of its values that a search can filter by. */
  fieldsOf(metadata: Fields): Fields {
    const filters = this.filterFields.filter((field) => metadata[field] !== undefined);
    return {
      [this.metadata]: stored("metadata", metadata),
      ...Object.fromEntries(filters.map((field) => [field, metadata[field]!])),
    };
  }

  /** A document without the fields that hold metadata. */
  withoutMetadata(document: Fields): Fields {
    const gone = new Set([this.metadata, ...this.filterFields]);
    return Object.fromEntries(Object.entries(document).filter(([field]) => !gone.has(field)));
  }

  metadataOf(document: Fields): Fields {
    const found = payload("metadata", document[this.metadata] ?? {});
    return isObject(found) ? found : {};
  }
}

export const isObject = (value: unknown): value is Record<string, Value> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
