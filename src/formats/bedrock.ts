// Bedrock on the provider's side: Converse, for models of every maker, and InvokeModel for vectors. No caller speaks
// them, so that their bytes are never passed. Source: the Converse reference, and what its SDK writes and reads.

import { embeddingsOfBedrock } from './bedrock-embeddings.ts'
import { faultOfBedrock, inBandOfBedrock } from './bedrock-faults.ts'
import { eventsOfBedrock, readBedrock, splitBedrock, watchBedrock, wholeBedrock } from './bedrock-read.ts'
import { secretPartsOf, signBedrock } from './bedrock-sign.ts'
import { writeBedrock } from './bedrock-write.ts'
import type { Format, ProviderSide } from './format.ts'
import { toSegment } from './segment.ts'

export const bedrock: Format & { readonly provider: ProviderSide } = {
  name: 'bedrock',
  provider: {
    path: (operation, { model, stream }) =>
      `/model/${toSegment(model)}/${operation === 'embeddings' ? 'invoke' : stream ? 'converse-stream' : 'converse'}`,
    // Of an API key; what signs stands in its place.
    credential: (key) => ['authorization', `Bearer ${key}`],
    sign: signBedrock,
    secretParts: secretPartsOf,
    edits: () => [],
    chat: { write: writeBedrock, read: readBedrock, events: eventsOfBedrock },
    embeddings: embeddingsOfBedrock,
    splitter: splitBedrock,
    streamType: 'application/vnd.amazon.eventstream',
    watch: watchBedrock,
    whole: wholeBedrock,
    // Nothing is said of what is left.
    quota: () => undefined,
    fault: faultOfBedrock,
    inBand: inBandOfBedrock,
  },
}
