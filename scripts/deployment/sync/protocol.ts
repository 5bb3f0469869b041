/**
 * The messages of Convex's sync protocol, which its WebSocket clients speak: read and checked, and written.
 *
 * Values within them are printed as over HTTP; versions are whole numbers, and times 64 bits in base64, little-endian.
 */
import type { JSONValue } from "convex/values";
import type { Answer } from "../calls";
import { printed } from "../values";

export interface StateVersion {
  querySet: number;
  identity: number;
  ts: bigint;
}

export interface AddedQuery {
  queryId: number;
  path: string;
  args: unknown;
  journal: string | null;
  componentPath: string | undefined;
}

export type ClientMessage =
  | { type: "Connect"; sessionId: string }
  | { type: "Authenticate"; tokenType: "Admin" | "User" | "None"; value: string; baseVersion: number }
  | { type: "ModifyQuerySet"; baseVersion: number; newVersion: number; added: AddedQuery[]; removed: number[] }
  | { type: "Mutation" | "Action"; requestId: number; path: string; args: unknown; componentPath: string | undefined }
  | { type: "Event" };

/** A message that is none of the protocol's. */
export class ProtocolError extends Error {}

type Fields = Record<string, unknown>;

export function messageIn(text: string): ClientMessage {
  const message = parsed(text);
  switch (message["type"]) {
    case "Connect":
      return { type: "Connect", sessionId: textIn(message, "sessionId") };
    case "Authenticate": {
      const tokenType = textIn(message, "tokenType");
      if (tokenType !== "Admin" && tokenType !== "User" && tokenType !== "None") throw new ProtocolError(`no tokenType ${tokenType}`);
      const value = tokenType === "None" ? "" : textIn(message, "value");
      return { type: "Authenticate", tokenType, value, baseVersion: wholeIn(message, "baseVersion") };
    }
    case "ModifyQuerySet":
      return modificationIn(message);
    case "Mutation":
    case "Action":
      return {
        type: message["type"],
        requestId: wholeIn(message, "requestId"),
        path: textIn(message, "udfPath"),
        args: message["args"],
        componentPath: optionalIn(message, "componentPath"),
      };
    case "Event":
      return { type: "Event" };
    default:
      throw new ProtocolError("a message of no known type");
  }
}

function modificationIn(message: Fields): ClientMessage {
  const { modifications } = message;
  if (!Array.isArray(modifications)) throw new ProtocolError("modifications are an array");
  const added: AddedQuery[] = [];
  const removed: number[] = [];
  for (const each of modifications as Fields[]) {
    const queryId = wholeIn(each, "queryId");
    if (each["type"] === "Remove") removed.push(queryId);
    else if (each["type"] === "Add") {
      added.push({
        queryId,
        path: textIn(each, "udfPath"),
        args: each["args"],
        journal: optionalIn(each, "journal") ?? null,
        componentPath: optionalIn(each, "componentPath"),
      });
    } else throw new ProtocolError("a modification is an Add or a Remove");
  }
  const [baseVersion, newVersion] = [wholeIn(message, "baseVersion"), wholeIn(message, "newVersion")];
  return { type: "ModifyQuerySet", baseVersion, newVersion, added, removed };
}

function parsed(text: string): Fields {
  try {
    const message = JSON.parse(text) as unknown;
    if (typeof message === "object" && message !== null && !Array.isArray(message)) return message as Fields;
  } catch {
    // said below
  }
  throw new ProtocolError("a message is an object of JSON");
}

function textIn(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw new ProtocolError(`${name} is a text`);
  return value;
}

const optionalIn = (fields: Fields, name: string): string | undefined =>
  fields[name] === undefined || fields[name] === null ? undefined : textIn(fields, name);

function wholeIn(fields: Fields, name: string): number {
  const value = fields?.[name];
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0) throw new ProtocolError(`${name} is a whole number`);
  return value;
}

// --- what the server says

export const encodedTime = (ts: bigint): string => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(ts);
  return bytes.toString("base64");
};

const versionOf = ({ querySet, identity, ts }: StateVersion) => ({ querySet, identity, ts: encodedTime(ts) });

/** An object of JSON with some values in it, which are printed in their own way. */
function framed(fields: Fields, values: Record<string, JSONValue | undefined>): string {
  const head = JSON.stringify(fields).slice(0, -1);
  const rest = Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [`,"${name}":${printed(value)}`]));
  return `${head}${rest.join("")}}`;
}

/** What has become of a query: its answer, without what tells one run from another. */
export function modification(queryId: number, answer: Answer, journal: string | null): string {
  const about = { queryId, logLines: [], journal };
  if (answer.status === "success") return framed({ type: "QueryUpdated", ...about }, { value: answer.value });
  const { errorMessage, errorData } = answer;
  return framed({ type: "QueryFailed", ...about, errorMessage }, { errorData });
}

export const removal = (queryId: number): string => JSON.stringify({ type: "QueryRemoved", queryId });

export function transition(start: StateVersion, end: StateVersion, modifications: readonly string[]): string {
  const about = { type: "Transition", startVersion: versionOf(start), endVersion: versionOf(end), clientClockSkew: 0, serverTs: Date.now() * 1e6 };
  return `${JSON.stringify(about).slice(0, -1)},"modifications":[${modifications.join(",")}]}`;
}

export function response(kind: "Mutation" | "Action", requestId: number, answer: Answer, ts: bigint): string {
  const about = { type: `${kind}Response`, requestId, success: answer.status === "success", logLines: [] };
  if (answer.status === "success") {
    return framed(kind === "Mutation" ? { ...about, ts: encodedTime(ts) } : about, { result: answer.value });
  }
  return framed({ ...about, result: answer.errorMessage }, { errorData: answer.errorData });
}

export const authError = (error: string, baseVersion: number): string =>
  JSON.stringify({ type: "AuthError", error, baseVersion, authUpdateAttempted: true });

export const fatalError = (error: string): string => JSON.stringify({ type: "FatalError", error });

export const PING = JSON.stringify({ type: "Ping" });
