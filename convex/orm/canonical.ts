/**
 * The canonical form of a value: Convex's order-preserving encoding. Comparing encodings as bytes compares the values.
 *
 * It is written into one buffer that grows: large values are a few allocations, not one for each byte.
 */
import type { Value } from "convex/values";

const TAG = { missing: 0x01, null: 0x03, zero: 0x08, float: 0x0d, false: 0x0e, true: 0x0f } as const;
const TAG_STRING = 0x10;
const TAG_BYTES = 0x11;
const TAG_ARRAY = 0x12;
const TAG_OBJECT = 0x15;
const END = 0x00;
const ESCAPED = 0xff;

/** Bytes in a buffer of their own, in words that TypeScript has before 5.7, where the type became generic, and after. */
type Owned = ReturnType<Uint8Array["slice"]>;

/** The canonical form of a value, or of a missing one. */
export function canonical(value: Value | undefined): Owned {
  const out = new Bytes();
  encode(value, out);
  return out.written();
}

/** SHA-256 of the canonical form, in lower-case hex. */
export async function canonicalHash(value: Value | undefined): Promise<string> {
  return await sha256(canonical(value));
}

/** SHA-256 in lower-case hex. */
export async function sha256(bytes: Owned): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}

export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Bytes that are written one behind the other. */
class Bytes {
  #bytes = new Uint8Array(256);
  #length = 0;

  push(byte: number): void {
    if (this.#length === this.#bytes.length) this.#grow(1);
    this.#bytes[this.#length++] = byte;
  }

  pushAll(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** A byte of what is ended by a zero, so that its own zeros are escaped. */
  pushEscaped(byte: number): void {
    this.push(byte);
    if (byte === END) this.push(ESCAPED);
  }

  #grow(by: number): void {
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + by));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }

  written(): Owned {
    return this.#bytes.slice(0, this.#length);
  }
}

function encode(value: Value | undefined, out: Bytes): void {
  if (value === undefined) out.push(TAG.missing);
  else if (value === null) out.push(TAG.null);
  else if (typeof value === "bigint") encodeInteger(value, out);
  else if (typeof value === "number") encodeFloat(value, out);
  else if (typeof value === "boolean") out.push(value ? TAG.true : TAG.false);
  else if (typeof value === "string") {
    out.push(TAG_STRING);
    encodeText(value, out);
  } else if (value instanceof ArrayBuffer) encodeBytes(new Uint8Array(value), out);
  else if (Array.isArray(value)) encodeArray(value, out);
  else encodeObject(value as Record<string, Value>, out);
}

const eight = new Uint8Array(8);
const view = new DataView(eight.buffer);

function encodeInteger(value: bigint, out: Bytes): void {
  if (value === 0n) {
    out.push(TAG.zero);
    return;
  }
  const width = [1, 2, 4, 8].findIndex((bytes) => BigInt.asIntN(bytes * 8, value) === value) + 1;
  out.push(value > 0n ? TAG.zero + width : TAG.zero - width);
  view.setBigInt64(0, value);
  out.pushAll(eight.subarray(8 - (1 << (width - 1))));
}

function encodeFloat(value: number, out: Bytes): void {
  view.setFloat64(0, value);
  const isNegative = eight[0]! >= 0x80;
  for (let place = 0; place < 8; place++) eight[place] = eight[place]! ^ (isNegative ? 0xff : place === 0 ? 0x80 : 0);
  out.push(TAG.float);
  out.pushAll(eight);
}

/** UTF-8, escaped and ended. */
function encodeText(text: string, out: Bytes): void {
  for (let place = 0; place < text.length; place++) {
    const unit = text.charCodeAt(place);
    if (unit < 0x80) out.pushEscaped(unit);
    else if (unit < 0x800) {
      out.push(0xc0 | (unit >> 6));
      out.push(0x80 | (unit & 0x3f));
    } else {
      const point = wellFormed(text.codePointAt(place)!);
      if (point > 0xffff) {
        place += 1;
        out.push(0xf0 | (point >> 18));
        out.push(0x80 | ((point >> 12) & 0x3f));
      } else out.push(0xe0 | (point >> 12));
      out.push(0x80 | ((point >> 6) & 0x3f));
      out.push(0x80 | (point & 0x3f));
    }
  }
  out.push(END);
}

/** A lone surrogate is encoded as the replacement character. */
const wellFormed = (point: number): number => (point >= 0xd800 && point <= 0xdfff ? 0xfffd : point);

function encodeBytes(bytes: Uint8Array, out: Bytes): void {
  out.push(TAG_BYTES);
  for (const byte of bytes) out.pushEscaped(byte);
  out.push(END);
}

function encodeArray(values: Value[], out: Bytes): void {
  out.push(TAG_ARRAY);
  for (const value of values) encode(value, out);
  out.push(END);
}

function encodeObject(fields: Record<string, Value | undefined>, out: Bytes): void {
  out.push(TAG_OBJECT);
  // Field names are ASCII, so the order of their code units is that of their bytes.
  for (const name of Object.keys(fields).sort()) {
    if (fields[name] === undefined) continue;
    if (name === "") {
      out.push(END);
      out.push(ESCAPED);
    } else encodeText(name, out);
    encode(fields[name], out);
  }
  out.push(END);
}
