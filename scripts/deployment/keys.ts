/**
 * Index keys as strings that are in order, by code units, where the values are in Convex's: one code unit a byte of its encoding.
 *
 * The encoding of a value ends itself, so the keys that begin with some values are those from their encoding up to `END` behind it. What
 * follows a value is the tag of the next one, below `END`. An escape, `ff` behind a zero, is above it: there the zero ended no value.
 */
import type { Value } from "convex/values";

/** Behind the encodings of some values: greater than any tag, and less than an escape. */
export const END = "\u00fe";

const TAG = { missing: 1, null: 3, zero: 8, float: 0x0d, false: 0x0e, true: 0x0f, text: 0x10, bytes: 0x11, array: 0x12 };
const OBJECT = 0x15;
const char = String.fromCharCode;
const STOP = "\u0000";

/** The key of values, one behind the other. */
export function keyOf(values: readonly (Value | undefined)[]): string {
  let key = "";
  for (const value of values) key += encoded(value);
  return key;
}

function encoded(value: Value | undefined): string {
  switch (typeof value) {
    case "undefined":
      return char(TAG.missing);
    case "string":
      return char(TAG.text) + ended(utf8(value));
    case "number":
      return char(TAG.float) + float(value);
    case "boolean":
      return char(value ? TAG.true : TAG.false);
    case "bigint":
      return integer(value);
  }
  if (value === null) return char(TAG.null);
  if (value instanceof ArrayBuffer) return char(TAG.bytes) + ended(Buffer.from(value).toString("latin1"));
  if (Array.isArray(value)) return char(TAG.array) + value.map(encoded).join("") + STOP;
  const names = Object.keys(value).sort();
  const fields = names.map((name) => (name === "" ? `${STOP}\u00ff` : ended(utf8(name))) + encoded((value as Record<string, Value>)[name]));
  return char(OBJECT) + fields.join("") + STOP;
}

const ASCII = /^[\u0001-\u007f]*$/;

const utf8 = (text: string): string => (ASCII.test(text) ? text : Buffer.from(text, "utf8").toString("latin1"));

const ended = (bytes: string): string => (bytes.includes(STOP) ? bytes.replaceAll(STOP, `${STOP}\u00ff`) : bytes) + STOP;

const view = new DataView(new ArrayBuffer(8));
const bytesOfView = Buffer.from(view.buffer);

function float(value: number): string {
  view.setFloat64(0, value);
  if (view.getUint8(0) & 0x80) view.setBigUint64(0, ~view.getBigUint64(0));
  else view.setUint8(0, view.getUint8(0) | 0x80);
  return bytesOfView.toString("latin1");
}

function integer(value: bigint): string {
  if (value === 0n) return char(TAG.zero);
  const width = [1, 2, 4, 8].findIndex((bytes) => BigInt.asIntN(bytes * 8, value) === value) + 1;
  view.setBigInt64(0, value);
  return char(value > 0n ? TAG.zero + width : TAG.zero - width) + bytesOfView.toString("latin1", 8 - (1 << (width - 1)));
}
