/**
 * What `handle` refuses: a `ConvexError` with a code, words, and whatever numbers and names explain them.
 *
 * The npm client shows the words as the error's message, the code as `code`, the rest as `details`. Words never repeat what a
 * record holds.
 */
import { ConvexError, type Value } from "convex/values";

export type Code =
  "Invalid" | "Unsupported" | "NotFound" | "Exists" | "Conflict" | "Ambiguous" | "BadDocument" | "TooLarge";

export type Refusal = ConvexError<{ code: Code; message: string; [detail: string]: Value }>;

export function refusal(code: Code, message: string, details: Record<string, Value> = {}): Refusal {
  return new ConvexError({ code, message, ...details });
}

export const invalid = (what: string, expected: string): Refusal => refusal("Invalid", `${what} must be ${expected}.`);

/** The answer that says the same as an error of a function, or null if it is of no known shape. */
export function answerOf(
  error: unknown,
): { ok: false; error: string; code: string; details: Record<string, Value> } | null {
  if (!(error instanceof ConvexError)) return null;
  const { code, message, ...details } = error.data as Record<string, Value>;
  return typeof code === "string" && typeof message === "string" ? { ok: false, error: message, code, details } : null;
}
