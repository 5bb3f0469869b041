/** The WebSocket end of the sync protocol: `/api/sync` and `/api/<version of the client>/sync`. */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import type { Host } from "../calls";
import type { Write } from "../conflicts";
import { PING } from "./protocol";
import { SyncSession, type Answered } from "./session";

/** Where the WebSocket clients connect. */
export const SYNC = /^\/api\/([^/]+\/)?sync$/;

// As the backend has them.
const PING_EVERY = 15_000;
const SOCKET_PING_EVERY = 5_000;
// Answers of mutations, for those that are sent again.
const ANSWERS_KEPT = 10_000;
// Arguments of 16 MiB as JSON, with room for the encoding.
const MAXIMUM_MESSAGE = 64 * (1 << 20);

export class SyncServer {
  readonly #sockets = new WebSocketServer({ noServer: true, maxPayload: MAXIMUM_MESSAGE, perMessageDeflate: false });
  readonly #sessions = new Set<SyncSession>();
  readonly #answered: Answered = new Map();

  constructor(
    readonly host: Host,
    readonly adminKey: string,
  ) {
    host.onCommit((writes) => this.#committed(writes));
    host.metrics.subscriptions = () => [...this.#sessions].reduce((sum, session) => sum + session.subscriptions, 0);
  }

  /** Takes the connections of a server that ask to become WebSockets. */
  attach(server: Server): void {
    server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on("error", () => socket.destroy());
      if (!SYNC.test((request.url ?? "").replace(/[?#].*$/s, ""))) {
        socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        return;
      }
      this.#sockets.handleUpgrade(request, socket, head, (opened) => this.#serve(opened));
    });
  }

  /** Cuts all connections, and says how many there were. */
  disconnect(): number {
    const count = this.#sockets.clients.size;
    for (const socket of this.#sockets.clients) socket.terminate();
    return count;
  }

  #serve(socket: WebSocket): void {
    const send = (text: string) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      this.host.metrics.message(Buffer.byteLength(text));
      socket.send(text);
    };
    const session = new SyncSession(this.host, this.adminKey, this.#answered, { send, close: () => socket.close(1008) });
    this.#sessions.add(session);
    const timers = [setInterval(() => send(PING), PING_EVERY), setInterval(() => socket.ping(), SOCKET_PING_EVERY)];
    for (const timer of timers) timer.unref();
    socket.on("message", (data, isBinary) => {
      if (isBinary) return socket.close(1003);
      session.receive((data as Buffer).toString("utf8"));
      for (const name of this.#answered.keys()) {
        if (this.#answered.size <= ANSWERS_KEPT) break;
        this.#answered.delete(name);
      }
    });
    socket.on("error", () => socket.terminate());
    socket.on("close", () => {
      for (const timer of timers) clearInterval(timer);
      session.end();
      this.#sessions.delete(session);
    });
  }

  #committed(writes: readonly Write[]): void {
    for (const session of this.#sessions) session.committed(writes);
  }
}
