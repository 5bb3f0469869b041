/**
 * How many buffered observation chunks become active, in message tokens.
 *
 * A share of the threshold is to remain as raw messages. The chunks up to a boundary are activated: the nearest boundary that frees enough,
 * unless it frees far too much, else the nearest below.
 */

export interface Chunk {
  [field: string]: unknown;
  id?: string;
  cycleId?: string;
  observations: string;
  tokenCount: number;
  messageTokens?: number;
  messageIds?: string[];
  lastObservedAt?: string;
  suggestedContinuation?: string;
  currentTask?: string;
}

export interface Aim {
  activationRatio: number;
  messageTokensThreshold: number;
  currentPendingTokens: number;
  forceMaxActivation: boolean;
}

// What a boundary may free beyond the target, as a share of what is to remain.
const OVERSHOOT = 0.95;
// Message tokens that remain in any case, where that many are to remain at all.
const LEAST_REMAINING = 1_000;

interface Boundary {
  chunks: number;
  tokens: number;
}

/** How many of the first chunks to activate; 1 at least. */
export function activated(chunks: readonly Chunk[], aim: Aim): number {
  const remaining = aim.messageTokensThreshold * (1 - aim.activationRatio);
  const target = Math.max(0, aim.currentPendingTokens - remaining);
  const { over, under } = nearest(chunks, target);

  const leaves = ({ tokens }: Boundary) => aim.currentPendingTokens - tokens >= Math.min(LEAST_REMAINING, remaining);
  const isNear = over !== undefined && over.tokens - target <= remaining * OVERSHOOT;
  if (over && leaves(over) && (aim.forceMaxActivation || isNear)) return over.chunks;
  if (under && leaves(under)) return under.chunks;
  return over?.chunks ?? 1;
}

/** The boundaries nearest to the target: the first with the fewest tokens at or over it, the first with the most below. */
function nearest(chunks: readonly Chunk[], target: number): { over?: Boundary; under?: Boundary } {
  const found: { over?: Boundary; under?: Boundary } = {};
  let tokens = 0;
  chunks.forEach((chunk, position) => {
    tokens += chunk.messageTokens ?? 0;
    const boundary = { chunks: position + 1, tokens };
    if (tokens >= target) {
      if (found.over === undefined || tokens < found.over.tokens) found.over = boundary;
    } else if (tokens > (found.under?.tokens ?? 0)) {
      found.under = boundary;
    }
  });
  return found;
}
