/**
 * Unique indexes for a project's own mutations: the rule that sessions keep, kept by TypeScript as well.
 *
 *     export const keepUnique = uniqueIn(schema, { customers: ["by_email"] });
 *
 * A mutation calls it once it has written a document, `await keepUnique(ctx.db, "customers", id)`. It reads the document's key in each
 * index, so Convex lets only one of the mutations that write a key at the same time through, and runs the others again.
 */
import type {
  DataModelFromSchemaDefinition,
  GenericDatabaseReader,
  GenericSchema,
  IndexNames,
  NamedTableInfo,
  SchemaDefinition,
  TableNamesInDataModel,
} from "convex/server";
import { ConvexError, type GenericId } from "convex/values";
import { Catalog } from "./catalog";
import { readerOf } from "./database";
import { keyOf, scan } from "./range";

type AnySchema = SchemaDefinition<GenericSchema, boolean>;
type Tables<Schema extends AnySchema> = TableNamesInDataModel<DataModelFromSchemaDefinition<Schema>>;

/** The names of the unique indexes of each table that has some. */
export type UniqueIndexes<Schema extends AnySchema> = {
  readonly [Table in Tables<Schema>]?: readonly Exclude<
    IndexNames<NamedTableInfo<DataModelFromSchemaDefinition<Schema>, Table>>,
    "by_id" | "by_creation_time"
  >[];
};

/** What is thrown where a key is another document's. It names no values. */
export type Taken = ConvexError<{ code: "Taken"; message: string; table: string; index: string; fields: string[] }>;

/**
 * The function that throws `Taken`, which rolls the mutation back, where another document has a key of the document with this id in a
 * unique index of its table. As in sessions, a document that lacks all fields of an index has no key there, and where some are missing, a
 * missing field equals a missing field.
 */
export function uniqueIn<const Schema extends AnySchema, const Unique extends UniqueIndexes<Schema>>(
  schema: Schema,
  unique: Unique,
) {
  const catalog = new Catalog(schema);
  for (const [table, indexes] of entriesOf(unique)) for (const index of indexes) catalog.fields(table, index);

  return async function keepUnique<Table extends keyof Unique & Tables<Schema>>(
    db: GenericDatabaseReader<DataModelFromSchemaDefinition<Schema>>,
    table: Table,
    id: GenericId<NoInfer<Table>>,
  ): Promise<void> {
    const reader = readerOf(db as never);
    const document = await reader.get(table, id);
    if (document === null) return;
    for (const index of entriesOf(unique).get(table) ?? []) {
      const fields = catalog.fields(table, index);
      const declared = fields.slice(0, -2);
      const eq = keyOf(document, declared);
      if (eq.every((bound) => bound.length === 0)) continue;
      for await (const holder of scan(reader, table, index, fields, { eq }, "asc")) {
        if (holder._id !== id) throw taken(table, index, declared);
      }
    }
  };
}

const entriesOf = (unique: object): ReadonlyMap<string, readonly string[]> => new Map(Object.entries(unique));

function taken(table: string, index: string, fields: string[]): Taken {
  const message = `Another document of table "${table}" has this key in its unique index "${index}".`;
  return new ConvexError({ code: "Taken", message, table, index, fields });
}
