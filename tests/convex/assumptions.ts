/** Fills in what requests of the wire assume of indexes: the fields that the schema under test declares. */
import type { GenericSchema, SchemaDefinition } from "convex/server";

type Assuming = { index: string; fields?: string[] | undefined };
type Named = { op?: string; table?: string; index?: string; at?: object | number | undefined; unique?: object[] | undefined };

export function assumptionsOf(schema: SchemaDefinition<GenericSchema, boolean>) {
  const declared = (table: string, index: string): string[] | undefined =>
    schema.tables[table]?.[" indexes"]().find(({ indexDescriptor }) => indexDescriptor === index)?.fields;

  const filled = <T extends object>(table: string, part: T): T => {
    const fields = "index" in part && !("fields" in part) ? declared(table, (part as Assuming).index) : undefined;
    return fields === undefined ? part : { ...part, fields };
  };

  /** A read or a write, with the fields of every index it names unless it gives its own. */
  return <T extends Named>(request: T): T => {
    const { table, at, unique } = request;
    if (table === undefined) return request;
    return {
      ...filled(table, request),
      ...(typeof at === "object" ? { at: filled(table, at) } : {}),
      ...(unique === undefined ? {} : { unique: unique.map((one) => filled(table, one)) }),
    };
  };
}
