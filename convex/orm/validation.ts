/**
 * Says in what a document differs from its table's validator.
 *
 * Convex checks documents itself; its words repeat their contents. This looks again at a document Convex has refused and names
 * fields and types instead.
 */
import type { GenericValidator, Value } from "convex/values";

/** Whether a text is an id of a table. */
export type IsId = (table: string, text: string) => boolean;

/** What is wrong with a value, or null if nothing is found; `at` is where in the document it is. */
export function mismatch(validator: GenericValidator, value: Value | undefined, isId: IsId, at = ""): string | null {
  if (value === undefined) return validator.isOptional === "optional" ? null : `${placeOf(at)} is missing`;
  switch (validator.kind) {
    case "object":
      return isObject(value) ? fieldMismatch(validator.fields, value, isId, at) : wrong(validator, value, at);
    case "array":
      return Array.isArray(value)
        ? first(value.map((each) => () => mismatch(validator.element, each, isId, `${at}[]`)))
        : wrong(validator, value, at);
    case "record":
      return isObject(value)
        ? first(Object.values(value).map((each) => () => mismatch(validator.value, each, isId, `${at}[]`)))
        : wrong(validator, value, at);
    case "union":
      return unionMismatch(validator.members, value, isId, at);
    case "literal":
      return validator.value === value ? null : `${placeOf(at)} is not a value it may have`;
    case "id":
      if (typeof value !== "string") return wrong(validator, value, at);
      return isId(validator.tableName, value) ? null : `${placeOf(at)} is no id of table "${validator.tableName}"`;
    default:
      return accepts(validator.kind, value) ? null : wrong(validator, value, at);
  }
}

function fieldMismatch(
  fields: Record<string, GenericValidator>,
  value: Record<string, Value>,
  isId: IsId,
  at: string,
): string | null {
  // The name is the document's, not the schema's, so it is not repeated.
  if (!Object.keys(value).every((name) => Object.hasOwn(fields, name))) {
    return `${placeOf(at)} has a field that is not in the schema`;
  }
  const checks = Object.entries(fields).map(([name, validator]) => () => {
    const field = Object.hasOwn(value, name) ? value[name] : undefined;
    return mismatch(validator, field, isId, at === "" ? name : `${at}.${name}`);
  });
  return first(checks);
}

function unionMismatch(members: GenericValidator[], value: Value, isId: IsId, at: string): string | null {
  if (members.some((member) => mismatch(member, value, isId, at) === null)) return null;
  const kinds = [...new Set(members.map(({ kind }) => kind))];
  return `${placeOf(at)} is ${typeOf(value)} and fits none of ${kinds.join(", ")}`;
}

function first(checks: (() => string | null)[]): string | null {
  for (const check of checks) {
    const flaw = check();
    if (flaw !== null) return flaw;
  }
  return null;
}

const placeOf = (at: string): string => (at === "" ? "the document" : `field "${at}"`);

const wrong = ({ kind }: GenericValidator, value: Value, at: string): string =>
  `${placeOf(at)} is ${typeOf(value)}, not ${kind}`;

/** `kind` is any that some version of the package has. */
function accepts(kind: string, value: Value): boolean {
  if (kind === "any") return true;
  return typeOf(value) === (kind === "commitTs" ? "int64" : kind);
}

function typeOf(value: Value): string {
  if (value === null) return "null";
  if (typeof value === "bigint") return "int64";
  if (typeof value === "number") return "float64";
  if (value instanceof ArrayBuffer) return "bytes";
  return Array.isArray(value) ? "array" : typeof value;
}

function isObject(value: Value): value is Record<string, Value> {
  return typeOf(value) === "object";
}
