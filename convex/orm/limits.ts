/**
 * Every number the functions hold requests to, with where it comes from.
 *
 * "Convex" are the backend's own limits (https://docs.convex.dev/production/state/limits), "wire" are the ones this
 * protocol sets below them in `docs/wire.md`. Sizes are bytes as `getConvexSize` and `getDocumentSize` count them.
 */

const MiB = 1 << 20;

/** The version of the wire these functions speak. */
export const VERSION = 4;

// Convex: one document.
export const DOCUMENT_BYTES = MiB;
export const DOCUMENT_NESTING = 16;
export const OBJECT_FIELDS = 1_024;
export const ARRAY_ELEMENTS = 8_192;
export const FIELD_NAME_LENGTH = 1_024;

// Convex: one query or mutation.
export const TRANSACTION_BYTES_READ = 16 * MiB;
export const TRANSACTION_DOCUMENTS_READ = 32_000;
export const TRANSACTION_INDEX_RANGES = 4_096;
export const TRANSACTION_BYTES_WRITTEN = 16 * MiB;
export const TRANSACTION_DOCUMENTS_WRITTEN = 16_000;

// Convex: one result.
export const RESULT_BYTES = 16 * MiB;

// Wire: one call of `read`. Half of what Convex lets a query read, so that the last document and the answer always fit;
// 8,000 documents fit one array. A range is opened only below READ_INDEX_RANGES.
export const READS = 1_024;
export const READ_BYTES = 8 * MiB;
export const READ_DOCUMENTS = 8_000;
// Time goes by values more than by bytes: 8 MiB hold 0.9 million numbers, but 8 million booleans, and an object takes some six times the
// time of a number. A call of this much work takes a third of Convex's second.
export const READ_WORK = 1 << 20;
export const ARRAY_WORK = 2;
export const OBJECT_WORK = 6;
export const READ_INDEX_RANGES = 4_000;
// Fewer than a call opens, so that each call goes on behind where the last one stopped. Ranges that are merged are all open at once, each
// as up to 17 of Convex's where it goes on behind a key.
export const UNION_RANGES = 3_000;
export const MERGED_RANGES = 200;
// A call may be asked for a part of all this: of the most parts, one is a single document.
export const READ_SHARES = 8_192;

// Wire: one call of `commit`. One write fewer than Convex allows, for the ledger.
export const WRITES = 15_999;
export const CHUNK_WRITES = 4_096;
export const COMMIT_ID_CHARACTERS = 64;

// Wire: what the deleteRanges of one commit may do together. Convex reads a document it deletes a second time and counts a
// range for it.
export const RANGE_DELETES = 4_000;
export const RANGE_BYTES = 6 * MiB;
export const RANGE_DOCUMENTS = 16_000;

// Wire: new documents that one commit reads back for their creation times, each a range of its own.
export const READ_BACKS = 1_000;

// Wire: the ledger.
export const LEDGER_MILLISECONDS = 60 * 60 * 1_000;

// Wire: how many commits there are to one that has old rows removed, and how many go at once.
export const SWEEP_EVERY = 128;
export const SWEPT = 500;

// Wire: change logs. A mutation is over some 20 seconds after it began, by which its rows are dated.
export const LOG_IDS = 8_000;
export const LOG_MILLISECONDS = 24 * 60 * 60 * 1_000;
export const LOG_OVERLAP_MILLISECONDS = 60 * 1_000;
export const LOG_SEEN = 64;
export const LOG_CHANGES = 2_000;

// Convex: one vector search.
export const SEARCH_RESULTS = 256;
export const SEARCH_CLAUSES = 64;
// Convex: one text search; of its bytes as many as leave room for what the documents lead to.
export const TEXT_RESULTS = 1_024;
export const TEXT_CLAUSES = 8;
export const TEXT_BYTES = 12 * MiB;
export const VECTOR_DIMENSIONS = { least: 2, most: 4_096 };

// Convex: a vector index holds float32. A number beyond it would have no distance to anything, and a vector whose numbers are all
// below its normal ones would lose its direction.
export const VECTOR_NUMBERS = { least: 1.1754943508222875e-38, most: 3.4028234663852886e38 };
