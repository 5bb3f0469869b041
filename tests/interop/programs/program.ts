/** What the programs share: where the deployment is, and how they talk to whoever runs them. */
import { text } from "node:stream/consumers";

export interface Place {
  deploymentUrl: string;
  adminAuthToken: string;
}

// Only answers go to stdout, whatever libraries log.
console.log = console.info = console.debug = console.error;

/** Gives `work` the JSON that stdin has, and ends with what it answers on stdout. */
export async function main<Input>(work: (input: Input) => Promise<unknown>): Promise<void> {
  const answer = await work(JSON.parse(await text(process.stdin)) as Input);
  process.stdout.write(JSON.stringify(answer), () => process.exit());
}
