/**
 * What the admin key may do: a deploy key carries the operations that were chosen for it, and is refused all others.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { FunctionKind } from "./functions";

/** Those that running internal functions takes; a key has some, or all there are. */
export const OPERATIONS = ["RunInternalQueries", "RunInternalMutations", "RunInternalActions"] as const;
export type Operation = (typeof OPERATIONS)[number];

const NEEDED: Record<FunctionKind, Operation> = {
  query: "RunInternalQueries",
  mutation: "RunInternalMutations",
  action: "RunInternalActions",
};

/** The key lacks an operation. */
export class NotPermitted extends Error {
  constructor(operation: Operation) {
    const action = `deployment:functions:${operation[0]!.toLowerCase()}${operation.slice(1)}`;
    super(`You do not have permission to perform this operation (${action}).`);
  }
}

/** Whether a key is the admin key; it takes the same time for every other. */
export const isAdminKey = (key: string, adminKey: string): boolean => timingSafeEqual(digest(key), digest(adminKey));

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** `allowed` is undefined for a key that has all operations. */
export function requireOperation(allowed: readonly Operation[] | undefined, kind: FunctionKind): void {
  const operation = NEEDED[kind];
  if (allowed !== undefined && !allowed.includes(operation)) throw new NotPermitted(operation);
}
