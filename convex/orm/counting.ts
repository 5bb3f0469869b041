/**
 * Counters for a project's own mutations: what sessions keep, kept by TypeScript as well.
 *
 *     export const keepCounters = countersIn(schema, { payments: { total: { by: ["ownerId"] }, paid: { by: ["ownerId"], of: "amount" } } });
 *
 * A mutation calls it for each document that it writes, with what the document was and what it is, null where it was not or is not there:
 * `await keepCounters(ctx.db, "payments", null, await ctx.db.get(id))` after an insert. Mutations that write at once seldom conflict over
 * it, and what they write while `python -m convexorm recount` counts anew is counted, too.
 */
import type {
  DataModelFromSchemaDefinition,
  DocumentByName,
  FieldPaths,
  GenericDatabaseWriter,
  GenericSchema,
  NamedTableInfo,
  SchemaDefinition,
  TableNamesInDataModel,
} from "convex/server";
import { Catalog } from "./catalog";
import { Counters } from "./counters";
import { writerOf } from "./database";
import { CommitMeter } from "./meter";
import type { Counter, Document } from "./protocol";
import { COUNTERS } from "./totals";
import { fieldsOf, Transaction } from "./transaction";

type AnySchema = SchemaDefinition<GenericSchema, boolean>;
type Model<Schema extends AnySchema> = DataModelFromSchemaDefinition<Schema>;
type Tables<Schema extends AnySchema> = TableNamesInDataModel<Model<Schema>>;
type Field<Schema extends AnySchema, Table extends Tables<Schema>> = FieldPaths<NamedTableInfo<Model<Schema>, Table>>;

/** The counters of each table that has some, as its model has them: by the values of which fields, and the sum `of` which. */
export type TableCounters<Schema extends AnySchema> = {
  readonly [Table in Tables<Schema>]?: {
    readonly [name: string]: { readonly by?: readonly Field<Schema, Table>[]; readonly of?: Field<Schema, Table> };
  };
};

/** The function that counts what has become of a document: `before` and `after` are the whole documents, as `db.get` answers them. */
export function countersIn<const Schema extends AnySchema, const Counted extends TableCounters<Schema>>(
  schema: Schema,
  counted: Counted,
) {
  const catalog = new Catalog(schema);
  catalog.requireTable(COUNTERS);
  const counters: Counter[] = [];
  for (const [table, named] of Object.entries(counted)) {
    catalog.requireTable(table);
    for (const [name, { by = [], of }] of Object.entries(named as Record<string, { by?: string[]; of?: string }>)) {
      counters.push({ table, name, by: [...by], ...(of === undefined ? {} : { of }) });
    }
  }

  return async function keepCounters<Table extends keyof Counted & Tables<Schema>>(
    db: GenericDatabaseWriter<Model<Schema>>,
    table: Table,
    before: DocumentByName<Model<Schema>, Table> | null,
    after: DocumentByName<Model<Schema>, Table> | null,
  ): Promise<void> {
    const noted = new Counters(counters);
    const transaction = new Transaction(writerOf(db as never), catalog, new CommitMeter(), noted);
    if (before !== null) noted.note(table, fieldsOf(before as Document), -1, (before as Document)._creationTime);
    if (after !== null) noted.note(table, fieldsOf(after as Document), 1, before === null ? undefined : (after as Document)._creationTime);
    await noted.settle(transaction, String(Math.random()));
  };
}
