// Values for the tests of usage.

import type { Gauges } from '../../../src/usage/metrics.ts'

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
