/**
 * One client of the sync protocol: the queries it has asked to be kept answered, and what it was told last.
 *
 * Each transition is of one moment: all queries that are to be run again are run over the same snapshot, and the client is told of those
 * whose answers differ from what it has. A query is run again when a commit wrote a key in an interval that it has read.
 */
import { isAdminKey } from "../access";
import type { Answer, Host, Observed } from "../calls";
import type { ReadSet, Write } from "../conflicts";
import * as protocol from "./protocol";
import { ProtocolError, type AddedQuery, type ClientMessage, type StateVersion } from "./protocol";

/** How a session reaches its client. */
export interface Channel {
  send(text: string): void;
  close(): void;
}

/** What mutations were answered, so that one that is sent again is not run again. */
export type Answered = Map<string, Promise<string>>;

class Query {
  reads: ReadSet | undefined;
  journal: string | null;
  isStale = true;
  /** What the client was told last; undefined before the first time. */
  told: string | undefined;

  constructor(readonly asked: AddedQuery) {
    this.journal = asked.journal;
  }
}

export class SyncSession {
  readonly #queries = new Map<number, Query>();
  readonly #sent: StateVersion = { querySet: 0, identity: 0, ts: 0n };
  #querySet = 0;
  #identity = 0;
  /** What the client is to be brought up to, for its mutations to be seen. */
  #awaited = 0n;
  #removed: number[] = [];
  #isAdmin = false;
  #sessionId: string | undefined;
  #isUpdating = false;
  #isOpen = true;
  /** Mutations are run one after the other, in the order in which they were sent. */
  #mutations: Promise<unknown> = Promise.resolve();

  constructor(
    readonly host: Host,
    readonly adminKey: string,
    readonly answered: Answered,
    readonly channel: Channel,
  ) {}

  get subscriptions(): number {
    return this.#queries.size;
  }

  end(): void {
    this.#isOpen = false;
    this.#queries.clear();
  }

  receive(text: string): void {
    if (!this.#isOpen) return;
    try {
      this.#take(protocol.messageIn(text));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#fail(error.message);
    }
  }

  /** Something was committed. */
  committed(writes: readonly Write[]): void {
    let isMet = false;
    for (const query of this.#queries.values()) {
      if (query.isStale || query.reads?.overwrittenBy(writes) === undefined) continue;
      query.isStale = isMet = true;
    }
    if (isMet) this.#update();
  }

  #fail(problem: string): void {
    this.channel.send(protocol.fatalError(problem));
    this.channel.close();
    this.end();
  }

  #take(message: ClientMessage): void {
    if (message.type === "Connect") {
      if (this.#sessionId !== undefined) throw new ProtocolError("connected already");
      this.#sessionId = message.sessionId;
      return;
    }
    if (this.#sessionId === undefined) throw new ProtocolError("Connect comes first");
    switch (message.type) {
      case "Authenticate":
        return this.#authenticate(message);
      case "ModifyQuerySet":
        return this.#modify(message);
      case "Mutation":
      case "Action":
        return this.#call(message);
    }
  }

  #authenticate({ tokenType, value, baseVersion }: ClientMessage & { type: "Authenticate" }): void {
    if (baseVersion !== this.#identity) throw new ProtocolError(`the identity has version ${this.#identity}, not ${baseVersion}`);
    if (tokenType === "User") {
      return this.channel.send(protocol.authError("This deployment knows no identity providers, only the admin key.", baseVersion));
    }
    if (tokenType === "Admin" && !isAdminKey(value, this.adminKey)) {
      return this.channel.send(protocol.authError("The provided deploy key was invalid for this deployment.", baseVersion));
    }
    this.#isAdmin = tokenType === "Admin";
    this.#identity += 1;
    for (const query of this.#queries.values()) query.isStale = true;
    this.#update();
  }

  #modify({ baseVersion, newVersion, added, removed }: ClientMessage & { type: "ModifyQuerySet" }): void {
    if (baseVersion !== this.#querySet) throw new ProtocolError(`the query set has version ${this.#querySet}, not ${baseVersion}`);
    if (newVersion <= baseVersion) throw new ProtocolError("a new version is later");
    for (const queryId of removed) if (this.#queries.delete(queryId)) this.#removed.push(queryId);
    for (const each of added) {
      if (this.#queries.has(each.queryId)) throw new ProtocolError(`there is a query ${each.queryId} already`);
      this.#queries.set(each.queryId, new Query(each));
    }
    this.#querySet = newVersion;
    this.#update();
  }

  #call({ type, requestId, path, args, componentPath }: ClientMessage & { type: "Mutation" | "Action" }): void {
    const kind = type === "Mutation" ? "mutation" : "action";
    const isAdmin = this.#isAdmin;
    const run = async () => {
      const answer = await this.host.answerSurely({ kind, path, args, componentPath, format: "convex_encoded_json", isAdmin });
      const ts = this.host.time;
      if (type === "Mutation" && answer.status === "success") this.#awaited = ts;
      return protocol.response(type, requestId, answer, ts);
    };
    const respond = async (text: Promise<string>) => {
      this.#send(await text);
      this.#update();
    };
    if (type === "Action") return void respond(run());
    const name = `${this.#sessionId} ${requestId}`;
    const known = this.answered.get(name) ?? this.#mutations.then(run);
    this.#mutations = known.catch(() => undefined);
    this.answered.set(name, known);
    void respond(known);
  }

  #send(text: string): void {
    if (this.#isOpen) this.channel.send(text);
  }

  // --- transitions

  #update(): void {
    if (this.#isUpdating) return;
    this.#isUpdating = true;
    // What comes in one go is answered in one go.
    setImmediate(() => {
      this.#transitions()
        .catch((error: unknown) => {
          console.error(error);
          this.channel.close();
        })
        .finally(() => (this.#isUpdating = false));
    });
  }

  async #transitions(): Promise<void> {
    while (this.#isOpen && this.#isBehind) await this.#transition();
  }

  get #isBehind(): boolean {
    const { querySet, identity, ts } = this.#sent;
    const isStale = [...this.#queries.values()].some((query) => query.isStale);
    return isStale || querySet !== this.#querySet || identity !== this.#identity || ts < this.#awaited;
  }

  async #transition(): Promise<void> {
    const moment = this.host.moment();
    const end: StateVersion = { querySet: this.#querySet, identity: this.#identity, ts: moment.ts };
    const stale = [...this.#queries.values()].filter((query) => query.isStale);
    const modifications = this.#removed.map(protocol.removal);
    this.#removed = [];
    for (const query of stale) query.isStale = false;
    try {
      for (const query of stale) {
        const isRerun = query.told !== undefined;
        const found = await this.host.observe({ ...query.asked, isAdmin: this.#isAdmin, journal: query.journal }, moment, isRerun);
        if (!this.#isOpen) return;
        // What others have written meanwhile is not in this answer.
        if (moment.isOverwritten(found.reads)) query.isStale = true;
        this.#note(query, found, modifications);
      }
    } finally {
      moment.end();
    }
    const isNews = modifications.length > 0 || end.querySet !== this.#sent.querySet || end.identity !== this.#sent.identity;
    if (!isNews && this.#sent.ts >= this.#awaited) return;
    this.#send(protocol.transition(this.#sent, end, modifications));
    Object.assign(this.#sent, end);
  }

  #note(query: Query, { answer, reads, journal }: Observed, modifications: string[]): void {
    query.reads = reads;
    query.journal = journal;
    const told = sameness(answer, journal);
    if (told === query.told || this.#queries.get(query.asked.queryId) !== query) return;
    query.told = told;
    modifications.push(protocol.modification(query.asked.queryId, answer, journal));
  }
}

/** The same for answers that are the same: an error is, whatever the number of the request was. */
const sameness = (answer: Answer, journal: string | null): string =>
  protocol.modification(0, answer.status === "error" ? { ...answer, errorMessage: answer.errorMessage.replace(/Request ID: \w+/, "") } : answer, journal);
