/**
 * Updates of threads and resources: each reads, merges and writes in one mutation, so that none of two at a time is lost.
 */
import type { Fields } from "../../orm/protocol";
import { only, type Operations } from "./operation";
import { mergedMetadata } from "./payloads";
import { RESOURCES, THREADS } from "./places";
import { objectIn, optionalTextIn, textIn, type Request } from "./request";

const metadataIn = (request: Request): Fields | undefined =>
  request["metadata"] == null ? undefined : objectIn(request, "metadata");

export const threads: Operations = only(THREADS, {
  async updateThread({ records, place }, request) {
    const [title, metadata] = [optionalTextIn(request, "title"), metadataIn(request)];
    const old = await records.find(place, place.keyOf(textIn(request, "id")));
    if (old === null) return { result: null };
    const fields = place.changed(old, {
      ...(title === undefined ? {} : { title }),
      ...(metadata === undefined ? {} : { metadata: mergedMetadata(old["metadata"], metadata) }),
      updatedAt: textIn(request, "updatedAt"),
    });
    await records.replace(place.table, old, fields);
    return { result: place.recordOf(fields) };
  },
});

export const resources: Operations = only(RESOURCES, {
  async updateResource({ records, place }, request) {
    const id = textIn(request, "resourceId");
    const [workingMemory, metadata] = [optionalTextIn(request, "workingMemory"), metadataIn(request)];
    const changes = {
      ...(workingMemory === undefined ? {} : { workingMemory }),
      updatedAt: textIn(request, "updatedAt"),
    };
    const old = await records.find(place, place.keyOf(id));
    const fields =
      old === null
        ? place.documentOf({ ...changes, id, metadata: metadata ?? {}, createdAt: textIn(request, "createdAt") }, null)
        : place.changed(old, {
            ...changes,
            ...(metadata === undefined ? {} : { metadata: mergedMetadata(old["metadata"], metadata) }),
          });
    await records.put(place.table, old, fields);
    return { result: place.recordOf(fields) };
  },
});
