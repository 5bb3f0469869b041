/**
 * What the deployment's schema declares, as requests need it: which tables there are and the fields of their indexes.
 *
 * A function cannot ask Convex for the schema it runs under, but `schema.ts` is deployed together with the functions
 * that import it, so the two always agree.
 */
import type { GenericSchema, SchemaDefinition } from "convex/server";
import type { GenericValidator } from "convex/values";
import { unknownIndex, unknownTable } from "./errors";

const BUILT_IN: [string, string[]][] = [
  ["by_creation_time", ["_creationTime", "_id"]],
  ["by_id", ["_id"]],
];

export class Catalog {
  readonly #tables: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;
  readonly #validators: ReadonlyMap<string, GenericValidator>;

  constructor(schema: SchemaDefinition<GenericSchema, boolean>) {
    this.#tables = new Map(
      Object.entries(schema.tables).map(([table, definition]) => {
        const declared = definition[" indexes"]().map((index): [string, string[]] => [
          index.indexDescriptor,
          [...index.fields, "_creationTime", "_id"],
        ]);
        return [table, new Map([...declared, ...BUILT_IN])];
      }),
    );
    this.#validators = new Map(
      Object.entries(schema.tables).map(([table, definition]): [string, GenericValidator] => [
        table,
        definition.validator,
      ]),
    );
  }

  requireTable(table: string): void {
    if (!this.#tables.has(table)) throw unknownTable(table);
  }

  /** All fields of an index in order, with `_creationTime` and `_id` at the end. */
  fields(table: string, index: string): readonly string[] {
    this.requireTable(table);
    const fields = this.#tables.get(table)?.get(index);
    if (fields === undefined) throw unknownIndex(table, index);
    return fields;
  }

  /** All indexes of a table, by name, with all their fields in order. */
  indexes(table: string): ReadonlyMap<string, readonly string[]> {
    this.requireTable(table);
    return this.#tables.get(table) ?? new Map();
  }

  /** What a table's documents must be, without Convex's own fields. */
  validator(table: string): GenericValidator | undefined {
    return this.#validators.get(table);
  }
}
