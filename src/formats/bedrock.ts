// Bedrock's Converse on the provider's side: converse and converse-stream, for models of every maker. No caller speaks
// it, so that its bytes are never passed. Source: the Converse reference, and what its SDK writes and reads.

import { faultOfBedrock, inBandOfBedrock } from './bedrock-faults.ts'
import { eventsOfBedrock, readBedrock, splitBedrock, watchBedrock, wholeBedrock } from './bedrock-read.ts'
import { secretPartsOf, signBedrock } from './bedrock-sign.ts'
import { writeBedrock } from './bedrock-write.ts'
import type { Format, ProviderSide } from './format.ts'
import { toSegment } from './segment.ts'

export const bedrock: Format & { readonly provider: ProviderSide } = {
  name: 'bedrock',
  provider: {
    path: (_operation, { model, stream }) => `/model/${toSegment(model)}/converse${stream ? '-stream' : ''}`,
    // Of an API key; what signs stands in its place.
    credential: (key) => ['authorization', `Bearer ${key}`],
    sign: signBedrock,
    secretParts: secretPartsOf,
    edits: () => [],
    chat: { write: writeBedrock, read: readBedrock, events: eventsOfBedrock },
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
