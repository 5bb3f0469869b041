/**
 * Values that are computed where a document is, of what it holds. What cannot be computed refuses the commit, naming field and
 * reason and no value.
 */
import { compareValues, type Value } from "convex/values";
import { badDocument } from "./errors";
import * as limits from "./limits";
import type { Document, Operand } from "./protocol";

class Uncomputable extends Error {}

/** What the fields are to hold, undefined for none, by what the document holds before. */
export function computed(
  fields: Record<string, Operand>,
  document: Document,
  write: number,
  table: string,
): Record<string, Value | undefined> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, operand]) => {
      try {
        return [name, valueOf(operand, document)];
      } catch (error) {
        if (!(error instanceof Uncomputable)) throw error;
        throw badDocument(write, table, `cannot be computed: ${error.message}`, name);
      }
    }),
  );
}

const stored = (document: Document, field: string): Value | undefined =>
  Object.hasOwn(document, field) ? document[field] : undefined;

function valueOf(operand: Operand, document: Document): Value | undefined {
  switch (operand.op) {
    case "value":
      return operand.value[0];
    case "field":
      return stored(document, operand.field) ?? operand.default?.[0];
    case "append":
    case "remove":
      return listed(stored(document, operand.field), operand.op, operand.value[0]!);
    case "least":
    case "greatest": {
      const [left, right] = [valueOf(operand.left, document), valueOf(operand.right, document)];
      if (left === undefined || left === null) return right;
      if (right === undefined || right === null) return left;
      return compareValues(left, right) > 0 === (operand.op === "greatest") ? left : right;
    }
    case "now":
      return operand.form === "milliseconds" ? Date.now() : new Date(Date.now()).toISOString();
    default:
      return arithmetic(operand.op, valueOf(operand.left, document), valueOf(operand.right, document), operand.whole);
  }
}

type Operator = "add" | "sub" | "mul" | "div";

function arithmetic(op: Operator, left: Value | undefined, right: Value | undefined, isWhole?: boolean): Value {
  if (typeof left === "bigint" && typeof right === "bigint") {
    if (op === "div") throw new Uncomputable("integers of 64 bits are not divided");
    const number = op === "add" ? left + right : op === "sub" ? left - right : left * right;
    if (BigInt.asIntN(64, number) !== number) throw new Uncomputable("it is beyond 64 bits");
    return number;
  }
  if (typeof left !== "number" || typeof right !== "number") {
    throw new Uncomputable("what is stored there is no number, or one of another kind");
  }
  const number = op === "add" ? left + right : op === "sub" ? left - right : op === "mul" ? left * right : left / right;
  if (!Number.isFinite(number)) throw new Uncomputable("it is no finite number");
  if (isWhole && Math.abs(number) > 2 ** 53) throw new Uncomputable("it is a whole number beyond 2**53");
  return number;
}

function listed(held: Value | undefined, op: "append" | "remove", value: Value): Value | undefined {
  if (held === undefined || held === null) return op === "append" ? [value] : held;
  if (!Array.isArray(held)) throw new Uncomputable("what is stored there is no array");
  if (op === "remove") return held.filter((each) => compareValues(each, value) !== 0);
  if (held.length >= limits.ARRAY_ELEMENTS) {
    throw new Uncomputable(`an array holds at most ${limits.ARRAY_ELEMENTS} elements`);
  }
  return [...held, value];
}
