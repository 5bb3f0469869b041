/**
 * Vector search over documents that have no vector: Convex passes them over, convex-test fails on them. The filter of every search
 * is made to leave them out.
 */
import type { Schema } from "./functions";

interface Syscalls {
  asyncSyscall(op: string, args: string): Promise<string>;
}
interface VectorQuery {
  indexName: string;
  expressions: object | null;
}
interface VectorIndexes {
  vectorIndexes: { indexDescriptor: string; vectorField: string }[];
}

const OPERATION = "1.0/actions/vectorSearch";

/** Has every vector search of this process from now on pass over documents without a vector. */
export function passOverMissingVectors(schema: Schema): void {
  const fields = new Map<string, string>(
    Object.entries(schema.tables).flatMap(([table, definition]) =>
      (definition as unknown as VectorIndexes).vectorIndexes.map(
        ({ indexDescriptor, vectorField }) => [`${table}.${indexDescriptor}`, vectorField] as const,
      ),
    ),
  );
  const narrowed = (args: string): string => {
    const request = JSON.parse(args) as { query: VectorQuery };
    const { indexName, expressions } = request.query;
    const field = fields.get(indexName);
    if (field === undefined) return args;
    const absent = [{ $undefined: null }, null].map((value) => ({ $neq: [{ $field: field }, { $literal: value }] }));
    const all = { $and: expressions === null ? absent : [expressions, ...absent] };
    return JSON.stringify({ ...request, query: { ...request.query, expressions: all } });
  };
  const global = globalThis as unknown as { Convex: Syscalls };
  const { Convex } = global;
  global.Convex = Object.create(Convex, {
    asyncSyscall: { value: (op: string, args: string) => Convex.asyncSyscall(op, op === OPERATION ? narrowed(args) : args) },
  }) as Syscalls;
}
