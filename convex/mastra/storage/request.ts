/**
 * Looks into a request: each of these returns one part of it, typed, or refuses the request.
 */
import type { Value } from "convex/values";
import type { Fields } from "../../orm/protocol";
import { invalid } from "./errors";

export type Request = Record<string, Value | undefined>;

const isObject = (value: unknown): value is Fields => Object.prototype.toString.call(value) === "[object Object]";

export function textIn(request: Request, name: string): string {
  const value = request[name];
  if (typeof value !== "string") throw invalid(name, "a string");
  return value;
}

export function optionalTextIn(request: Request, name: string): string | undefined {
  return request[name] == null ? undefined : textIn(request, name);
}

export function numberIn(request: Request, name: string): number {
  const value = request[name];
  if (typeof value !== "number" || Number.isNaN(value)) throw invalid(name, "a number");
  return value;
}

export function optionalNumberIn(request: Request, name: string): number | undefined {
  return request[name] == null ? undefined : numberIn(request, name);
}

/** How many: a whole number, 0 or more. */
export function optionalCountIn(request: Request, name: string): number | undefined {
  const value = optionalNumberIn(request, name);
  if (value !== undefined && (!Number.isInteger(value) || value < 0)) throw invalid(name, "a whole number, 0 or more");
  return value;
}

export function objectIn(request: Request, name: string): Fields {
  const value = request[name];
  if (!isObject(value)) throw invalid(name, "an object");
  return value;
}

export function objectsIn(request: Request, name: string): Fields[] {
  const value = request[name];
  if (!Array.isArray(value) || !value.every(isObject)) throw invalid(name, "an array of objects");
  return value;
}

/** The ids of a request, each once. */
export function idsIn(request: Request, name = "ids"): string[] {
  const value = request[name];
  if (!Array.isArray(value) || !value.every((id) => typeof id === "string")) throw invalid(name, "an array of strings");
  return [...new Set(value)];
}

/** A part that is sent as JSON text. */
export function jsonIn(request: Request, name: string): unknown {
  try {
    return JSON.parse(textIn(request, name));
  } catch {
    throw invalid(name, "JSON text");
  }
}

export function jsonObjectIn(request: Request, name: string): Record<string, unknown> {
  const value = jsonIn(request, name);
  if (!isObject(value)) throw invalid(name, "the JSON text of an object");
  return value;
}
