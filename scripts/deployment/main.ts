/**
 * A Convex deployment on this machine, for tests and development:
 *
 *     npm run deployment -- [--port 3210] [--admin-key KEY] [--functions convex] [--latency 0] [--user-time 500] [--redact]
 *         [--allow OPERATION]… [--persist FILE] [--exit-with-stdin]
 *
 * `--latency` are the milliseconds between the run of a mutation and its commit, in which others may commit: with it mutations overlap, and
 * conflict as they do on Convex. `--user-time` are those that one query or mutation may take apart from its system calls.
 * With `--redact` an error says no more than in production: only the data of a ConvexError. `--allow` are the operations of the admin key,
 * such as RunInternalQueries; without it the key has all.
 *
 * With `--persist` documents, files and what is scheduled are kept in a file, and are there again when the host is started again.
 *
 * Serves the functions of a directory on 127.0.0.1, and prints `ready URL` once it does. It ends on SIGTERM and SIGINT,
 * with `--exit-with-stdin` also when its standard input is closed.
 */
import { Console } from "node:console";
import { register } from "node:module";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { OPERATIONS, type Operation } from "./access";
import { Host } from "./calls";
import { Functions } from "./functions";
import { serve } from "./http";
import { keptIn } from "./kept";

// Half of what Convex gives a function.
const DEFAULT_USER_TIME = 500;
// For a deployment nobody else can reach; tests may give their own.
const DEFAULT_ADMIN_KEY = "local|admin";

function options() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "3210" },
      "admin-key": { type: "string", default: DEFAULT_ADMIN_KEY },
      functions: { type: "string", default: "convex" },
      latency: { type: "string", default: "0" },
      "user-time": { type: "string", default: String(DEFAULT_USER_TIME) },
      redact: { type: "boolean", default: false },
      persist: { type: "string" },
      allow: { type: "string", multiple: true, default: [] },
      "exit-with-stdin": { type: "boolean", default: false },
    },
  });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error(`--port ${values.port} is not a port`);
  return {
    port,
    adminKey: values["admin-key"],
    directory: resolve(values.functions),
    latency: milliseconds("--latency", values.latency),
    userTime: milliseconds("--user-time", values["user-time"]),
    redact: values.redact,
    persist: values.persist,
    allowed: operations(values.allow.flatMap((names) => names.split(/[\s,]+/))),
    exitWithStdin: values["exit-with-stdin"],
  };
}

function milliseconds(option: string, given: string): number {
  const number = Number(given);
  if (given.trim() === "" || !Number.isFinite(number) || number < 0) throw new Error(`${option} ${given} is no number of milliseconds`);
  return number;
}

/** The operations that a key is allowed, undefined for all. */
function operations(names: string[]): Operation[] | undefined {
  const wrong = names.find((name) => !OPERATIONS.includes(name as Operation));
  if (wrong !== undefined) throw new Error(`--allow ${wrong} is none of ${OPERATIONS.join(", ")}`);
  return names.length === 0 ? undefined : (names as Operation[]);
}

async function main(): Promise<void> {
  const { port, adminKey, directory, latency, userTime, redact, allowed, persist, exitWithStdin } = options();
  // Standard output is for the one line; what functions log goes to standard error.
  globalThis.console = new Console(process.stderr, process.stderr);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => process.exit(0));
  if (exitWithStdin) process.stdin.on("close", () => process.exit(0)).resume();

  register("./packages.ts", import.meta.url);
  // What a function leaves behind unhandled is its own fault, and said; the host goes on.
  process.on("uncaughtException", (error) => console.error(error));
  const functions = await Functions.load(directory);
  const kept = persist === undefined ? undefined : await keptIn(resolve(persist));
  const host = new Host(functions, { latency, userTime, redact, allowed, kept });
  const server = serve(host, adminKey);
  server.on("error", fail);
  server.listen(port, "127.0.0.1", () => {
    const address = server.address() as AddressInfo;
    host.files.origin = `http://127.0.0.1:${address.port}`;
    host.start();
    process.stdout.write(`ready ${host.files.origin}\n`);
  });
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

main().catch(fail);
