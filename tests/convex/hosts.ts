/** Local hosts in processes of their own. Whoever starts one ends it. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const HOST = ["--import", "tsx", "scripts/deployment/main.ts", "--port", "0"];

/** A host with these options, and the line it has printed when it serves. */
export async function start(...options: string[]): Promise<{ process: ChildProcess; line: string; url: string }> {
  const started = spawn(process.execPath, [...HOST, ...options], {
    env: { ...process.env, NODE_PATH: "node_modules" }, // as `npm run deployment` does
    stdio: ["pipe", "pipe", process.env["HOST_LOG"] ? "inherit" : "ignore"],
  });
  const [line] = (await once(createInterface(started.stdout!), "line")) as [string];
  return { process: started, line, url: line.replace(/^ready /, "") };
}
