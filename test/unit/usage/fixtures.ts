// Values for the tests of usage.

import type { Arrival } from '../../../src/types.ts'
import type { Gauges } from '../../../src/usage/metrics.ts'
import { makeRequest } from '../upstream/stage.ts'

/** Of a process in which nothing goes on. */
export const IDLE_GAUGES: Gauges = {
  wall: () => 0,
  inflight: () => 0,
  streams: () => 0,
  redisUp: () => undefined,
  redisRoundTrips: () => 0,
  redisFleet: () => undefined,
  limits: () => ({ leased: 0, slots: 0, owed: { requests: 0, tokens: 0 } }),
  budgets: () => [],
  openHolds: () => 0,
  waiting: () => 0,
  deployments: () => [],
  secrets: () => [],
  rotations: () => [],
  keyUses: () => [],
}

/** A request that nobody has read the body of. */
export function makeArrival(over: Partial<Arrival> = {}): Arrival {
  return {
    id: 'req_1',
    endpoint: makeRequest().endpoint,
    bearer: 'the-bearer-itself',
    startedMs: 1000,
    timeoutMs: undefined,
    signal: new AbortController().signal,
    end: () => {},
    address: '10.1.2.3',
    traceparent: undefined,
    tracestate: undefined,
    forwarded: [],
    body: { read: () => Promise.reject(new Error('read')), release: () => {}, stop: () => {} },
    ...over,
  }
}
