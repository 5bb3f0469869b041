/**
 * HTTP actions: what `http.ts` routes, served below `/http`, as a deployment that one hosts oneself does.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Backend } from "./backend";
import type { Module } from "./functions";

/** A response has at most 20 MiB. https://docs.convex.dev/functions/http-actions#limits */
const MAXIMUM_RESPONSE = 20 << 20;
const BODILESS = ["GET", "HEAD"];

interface Router {
  isRouter: true;
  lookup: (path: string, method: string) => readonly [{ invokeHttpAction: (request: Request) => Promise<Response> }, string, string] | null;
  getRoutes: () => readonly (readonly [string, string, unknown])[];
}

export class Routes {
  readonly #router: Router | undefined;

  constructor(
    readonly backend: Backend,
    module: Module | undefined,
  ) {
    this.#router = module?.["default"] as Router | undefined;
    if (this.#router !== undefined && typeof this.#router.lookup !== "function") throw new Error("http.ts has to export a router");
  }

  /** What is routed: paths and methods. */
  list(): { path: string; method: string }[] {
    return (this.#router?.getRoutes() ?? []).map(([path, method]) => ({ path, method }));
  }

  /** Answers a request for a path below `/http`, with what is behind it in the URL. */
  async answer(path: string, request: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> {
    const method = request.method ?? "GET";
    const [pathname = "/"] = path.split("?");
    const found = this.#router?.lookup(pathname, method === "HEAD" ? "GET" : method) ?? null;
    if (found === null) {
      const hint = this.#router === undefined ? "This Convex deployment does not have HTTP actions enabled." : "No matching routes found";
      response.writeHead(404, { "content-type": "text/plain" }).end(hint);
      return;
    }
    const [handler, , route] = found;
    const url = `http://${request.headers.host ?? "127.0.0.1"}${path}`;
    const headers = Object.entries(request.headersDistinct).flatMap(([name, values]) =>
      (values ?? []).map((value): [string, string] => [name, value]),
    );
    const init = { method, headers, ...(BODILESS.includes(method) ? {} : { body: new Uint8Array(body) }) };
    const answered = await this.backend.inAction(`${method} ${route}`, async () => {
      const answer = await handler.invokeHttpAction(new Request(url, init));
      if (!(answer instanceof Response)) throw new Error("An HTTP action has to answer a Response");
      return { answer, bytes: Buffer.from(await answer.arrayBuffer()) };
    });
    if (answered.bytes.byteLength > MAXIMUM_RESPONSE) throw new Error("The response of an HTTP action is too large");
    const sent: Record<string, string | string[]> = Object.fromEntries(answered.answer.headers);
    const cookies = answered.answer.headers.getSetCookie();
    if (cookies.length > 0) sent["set-cookie"] = cookies;
    response.writeHead(answered.answer.status, { ...sent, "content-length": answered.bytes.byteLength });
    response.end(method === "HEAD" ? undefined : answered.bytes);
  }
}
