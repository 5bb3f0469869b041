/**
 * The canonical form of a value: Convex's order-preserving encoding. Comparing encodings as bytes compares the values.
 */
import type { Value } from "convex/values";

const TAG = { missing: 0x01, null: 0x03, zero: 0x08, float: 0x0d, false: 0x0e, true: 0x0f } as const;
const TAG_STRING = 0x10;
const TAG_BYTES = 0x11;
const TAG_ARRAY = 0x12;
const TAG_OBJECT = 0x15;
const END = 0x00;
const ESCAPED = 0xff;

/** The canonical form of a value, or of a missing one. */
export function canonical(value: Value | undefined): Uint8Array<ArrayBuffer> {
  const out: number[] = [];
  encode(value, out);
  return Uint8Array.from(out);
}

/** SHA-256 of the canonical form, in lower-case hex. */
export async function canonicalHash(value: Value | undefined): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", canonical(value));
  return hex(new Uint8Array(digest));
}

export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function encode(value: Value | undefined, out: number[]): void {
  if (value === undefined) out.push(TAG.missing);
  else if (value === null) out.push(TAG.null);
  else if (typeof value === "bigint") encodeInteger(value, out);
  else if (typeof value === "number") encodeFloat(value, out);
  else if (typeof value === "boolean") out.push(value ? TAG.true : TAG.false);
  else if (typeof value === "string") encodeTerminated(TAG_STRING, utf8(value), out);
  else if (value instanceof ArrayBuffer) encodeTerminated(TAG_BYTES, new Uint8Array(value), out);
  else if (Array.isArray(value)) encodeArray(value, out);
  else encodeObject(value as Record<string, Value>, out);
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

function encodeInteger(value: bigint, out: number[]): void {
  if (value === 0n) {
    out.push(TAG.zero);
    return;
  }
  const width = [1, 2, 4, 8].findIndex((bytes) => BigInt.asIntN(bytes * 8, value) === value) + 1;
  out.push(value > 0n ? TAG.zero + width : TAG.zero - width);
  const view = new DataView(new ArrayBuffer(8));
  view.setBigInt64(0, value);
  pushAll(new Uint8Array(view.buffer).subarray(8 - (1 << (width - 1))), out);
}

function encodeFloat(value: number, out: number[]): void {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const sign = 1n << 63n;
  view.setBigUint64(0, bits & sign ? ~bits : bits | sign);
  out.push(TAG.float);
  pushAll(new Uint8Array(view.buffer), out);
}

function encodeTerminated(tag: number | null, bytes: Uint8Array, out: number[]): void {
  if (tag !== null) out.push(tag);
  for (const byte of bytes) {
    out.push(byte);
    if (byte === END) out.push(ESCAPED);
  }
  out.push(END);
}

function encodeArray(values: Value[], out: number[]): void {
  out.push(TAG_ARRAY);
  for (const value of values) encode(value, out);
  out.push(END);
}

function encodeObject(fields: Record<string, Value | undefined>, out: number[]): void {
  out.push(TAG_OBJECT);
  // Field names are ASCII, so the order of their code units is that of their bytes.
  for (const name of Object.keys(fields).sort()) {
    if (fields[name] === undefined) continue;
    if (name === "") out.push(END, ESCAPED);
    else encodeTerminated(null, utf8(name), out);
    encode(fields[name], out);
  }
  out.push(END);
}

function pushAll(bytes: Uint8Array, out: number[]): void {
  for (const byte of bytes) out.push(byte);
}
