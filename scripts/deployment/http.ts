/**
 * Convex's HTTP API over a host: `POST /api/query`, `/api/mutation` and `/api/action`, `GET /api/check_admin_key`, `GET /version`, the upload URLs
 * and URLs of files, HTTP actions below `/http`, the sync protocol over WebSockets, and routes of its own: `GET /metrics` and
 * `POST /metrics/reset`, that need no key, `POST /disconnect`, which cuts all WebSockets, `GET /crons`, and `POST /clock
 * {"advance": milliseconds}`, which moves the clock of what is due by time and answers once it has run.
 *
 * Whatever a client sends, it gets an answer or its connection is closed, and the host goes on.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isAdminKey, NotPermitted } from "./access";
import { ConflictError } from "./backend";
import { DigestMismatch } from "./files";
import type { Host } from "./calls";
import type { FunctionKind } from "./functions";
import { SYNC, SyncServer } from "./sync/server";
import { formatNamed, printed } from "./values";

// Arguments of 16 MiB as JSON, with room for the encoding.
const MAXIMUM_BODY = 64 * (1 << 20);

const KINDS: Record<string, FunctionKind> = {
  "/api/query": "query",
  "/api/mutation": "mutation",
  "/api/action": "action",
};

const FILES = "/api/storage/";

const ROUTED = "/http";

/** What one file may have here, where it is held in memory while it is stored; Convex has no limit but the time it takes. */
const MAXIMUM_FILE = 1 << 30;

/** A request that is refused before a function is looked for. */
class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

interface Reply {
  status: number;
  type: string;
  body: string | Buffer;
}

export function serve(host: Host, adminKey: string): Server {
  const sync = new SyncServer(host, adminKey);
  const server = createServer((request, response) => {
    const { url = "/" } = request;
    if (url === ROUTED || url.startsWith(`${ROUTED}/`) || url.startsWith(`${ROUTED}?`)) {
      replyByAction(url.slice(ROUTED.length), request, response, host).catch((error: unknown) => {
        console.error(error);
        response.destroy();
      });
      return;
    }
    replyTo(request, host, adminKey, sync)
      .then((reply) => send(request, response, reply))
      .catch((error: unknown) => {
        console.error(error);
        response.destroy();
      });
  });
  sync.attach(server);
  // Clients keep their connections; none is closed under a call that is just being sent.
  server.keepAliveTimeout = 60_000;
  return server;
}

/** What an HTTP action answers; where it throws, that it did. */
async function replyByAction(path: string, request: IncomingMessage, response: ServerResponse, host: Host): Promise<void> {
  try {
    await host.routes.answer(path.startsWith("/") ? path : `/${path}`, request, await bodyOf(request), response);
  } catch (error) {
    if (response.headersSent || response.destroyed) throw error;
    console.error(error);
    const refused = error instanceof HttpError ? error : new HttpError(500, "InternalServerError", "The HTTP action failed.");
    send(request, response, json({ code: refused.code, message: refused.message }, refused.status));
  }
}

function send(request: IncomingMessage, response: ServerResponse, { status, type, body }: Reply): void {
  if (response.destroyed) return;
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    // What is left of a body that was not read to its end is no request.
    ...(request.complete ? {} : { connection: "close" }),
  });
  response.end(body);
}

/** The path of a request, whose target may be a whole URL, or nothing that is one. */
const pathOf = (target: string): string => target.replace(/^https?:\/\/[^/?#]*/i, "").replace(/[?#].*$/s, "");

const json = (value: unknown, status = 200): Reply => ({
  status,
  type: "application/json",
  body: JSON.stringify(value),
});

async function replyTo(request: IncomingMessage, host: Host, adminKey: string, sync: SyncServer): Promise<Reply> {
  try {
    const pathname = pathOf(request.url ?? "/");
    switch (`${request.method} ${pathname}`) {
      case "GET /version":
        return { status: 200, type: "text/plain", body: "local" };
      case "GET /metrics":
        return json(host.metrics.counts);
      case "POST /metrics/reset":
        host.metrics.reset();
        return json(host.metrics.counts);
      case "GET /crons":
        if (!authenticate(request.headers.authorization, adminKey)) throw badKey();
        return json(host.crons.list());
      case "POST /clock":
        if (!authenticate(request.headers.authorization, adminKey)) throw badKey();
        return json(await host.advance(millisecondsIn(await bodyOf(request))));
      case "POST /disconnect":
        if (!authenticate(request.headers.authorization, adminKey)) throw badKey();
        return json({ disconnected: sync.disconnect() });
      case "GET /api/check_admin_key":
        if (!authenticate(request.headers.authorization, adminKey)) throw badKey();
        return json({ success: true, allowedOps: host.allowed ?? [], isReadOnly: false });
    }
    if (SYNC.test(pathname)) {
      throw new HttpError(426, "UpgradeRequired", "The sync protocol is spoken over a WebSocket.");
    }
    if (pathname.startsWith(FILES)) return await replyAboutFile(pathname.slice(FILES.length), request, host);
    const kind = Object.hasOwn(KINDS, pathname) ? KINDS[pathname] : undefined;
    if (kind === undefined) throw new HttpError(404, "NotFound", "There is nothing at this path.");
    if (request.method !== "POST") throw new HttpError(405, "MethodNotAllowed", "Functions are called with POST.");
    return await replyToCall(kind, request, host, adminKey);
  } catch (error) {
    if (error instanceof HttpError) return json({ code: error.code, message: error.message }, error.status);
    if (error instanceof ConflictError) {
      return json({ code: "OptimisticConcurrencyControlFailure", message: error.message }, 503);
    }
    if (error instanceof DigestMismatch) return json({ code: "BadDigest", message: error.message }, 400);
    if (error instanceof NotPermitted) return json({ code: "OperationNotPermitted", message: error.message }, 403);
    // Nobody waits for the answer to a request that was broken off.
    if (request.destroyed) return json({ code: "Aborted", message: "The body has no end." }, 400);
    console.error(error);
    return json({ code: "InternalServerError", message: "The host failed." }, 500);
  }
}

async function replyToCall(kind: FunctionKind, request: IncomingMessage, host: Host, adminKey: string): Promise<Reply> {
  const body = await bodyOf(request);
  const isAdmin = authenticate(request.headers.authorization, adminKey);
  const { path, args, format } = parseCall(body);
  const answer = printed(await host.answer({ kind, path, args, format, isAdmin }));
  host.metrics.call(body.byteLength, Buffer.byteLength(answer));
  return { status: 200, type: "application/json", body: answer };
}

async function replyAboutFile(name: string, request: IncomingMessage, host: Host): Promise<Reply> {
  if (request.method === "POST" && name === "upload") {
    const token = new URL(request.url ?? "", "http://host").searchParams.get("token") ?? "";
    if (!host.files.take(token)) throw new HttpError(401, "BadUploadUrl", "The upload URL is none, or none any more.");
    const bytes = await bodyOf(request, MAXIMUM_FILE);
    return json({ storageId: host.files.store(bytes, request.headers["content-type"], digestIn(request.headers["digest"])) });
  }
  const file = request.method === "GET" ? host.files.at(name) : undefined;
  if (file === undefined) throw new HttpError(404, "StorageFileNotFound", "There is no such file.");
  return { status: 200, type: file.type ?? "application/octet-stream", body: file.bytes };
}

/** Whether the caller has the admin key. A wrong key is refused, none is a caller like everybody. */
function authenticate(authorization: string | undefined, adminKey: string): boolean {
  if (authorization === undefined) return false;
  const [scheme, key = ""] = authorization.split(/ (.*)/s);
  if (scheme !== "Convex") {
    throw new HttpError(401, "Unauthenticated", "This deployment knows no identity providers, only the admin key.");
  }
  if (!isAdminKey(key, adminKey)) throw badKey();
  return true;
}

const badKey = (): HttpError =>
  new HttpError(
    403,
    "BadDeployKey",
    "The provided deploy key was invalid for this deployment. Double check that the environment this key was " +
      "generated for matches the desired deployment.",
  );

function parseCall(body: Buffer) {
  const call = parseJson(body);
  if (typeof call !== "object" || call === null || !("path" in call) || typeof call.path !== "string") {
    throw new HttpError(400, "BadJsonBody", "The body is an object with path, args and format.");
  }
  const named = "format" in call ? call.format : "convex_encoded_json";
  const format = typeof named === "string" ? formatNamed(named) : undefined;
  if (format === undefined) throw new HttpError(400, "BadFormat", "The format is convex_encoded_json or json.");
  return { path: call.path, args: "args" in call ? call.args : {}, format };
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(UTF8.decode(body));
  } catch {
    throw new HttpError(400, "BadJsonBody", "The body is not JSON in UTF-8.");
  }
}

/** The SHA-256 that a header `Digest: sha-256=…` has, in base64. */
function digestIn(header: string | string[] | undefined): string | undefined {
  return /sha-256=([^,\s]+)/i.exec(String(header ?? ""))?.[1];
}

function millisecondsIn(body: Buffer): number {
  const { advance } = (parseJson(body) ?? {}) as { advance?: unknown };
  if (typeof advance !== "number" || !Number.isFinite(advance) || advance < 0) {
    throw new HttpError(400, "BadJsonBody", "The body is {advance: milliseconds}.");
  }
  return advance;
}

async function bodyOf(request: IncomingMessage, maximum = MAXIMUM_BODY): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  // A body that is too large is answered, so its connection is not to be destroyed.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > maximum) throw new HttpError(413, "RequestTooLarge", `A body has at most ${maximum} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
