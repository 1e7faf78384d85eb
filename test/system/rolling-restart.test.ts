// Gateways behind HAProxy and behind nginx are restarted one after the other, again and again, under load and with long
// streams: nobody notices. What callers got is counted at the callers.

import { expect, it } from 'vitest'
import { eventually } from '../support/caller.ts'
import { startHaproxy } from '../support/haproxy.ts'
import { startNginx } from '../support/nginx.ts'
import { type Balancer, restartAll } from '../support/rolling-restart.ts'

const ROUNDS = 5
const PER_SECOND = 100
const STREAMS = 30

async function haproxy(ports: readonly number[]): Promise<Balancer> {
  const balancer = await startHaproxy(ports)
  const allUp = async () => (await balancer.states()).every((state) => state === 'UP')
  return { ...balancer, settled: () => eventually(allUp, 'all are up', 10_000) }
}

/** It says of no server how it stands, and nobody needs to wait for it: `fail_timeout` is shorter than the notice. */
async function nginx(ports: readonly number[]): Promise<Balancer> {
  return { ...(await startNginx({ ports })), settled: async () => {} }
}

it.each([
  { name: 'HAProxy', balancer: haproxy, gateways: 3, drainNotice: '2s' },
  { name: 'nginx', balancer: nginx, gateways: 3, drainNotice: '5s' },
  { name: 'nginx', balancer: nginx, gateways: 2, drainNotice: '5s' },
])(
  `$gateways gateways behind $name, ${ROUNDS} rounds: no request fails and no stream is cut`,
  { timeout: 600_000 },
  async ({ balancer, gateways, drainNotice }) => {
    // A stream of about eight seconds, a whole answer of twenty milliseconds.
    const told = await restartAll({
      ...{ gateways, rounds: ROUNDS, perSecond: PER_SECOND, streams: STREAMS, pieces: 80 },
      ...{ drainNotice, balancer },
    })
    expect(told.bad).toEqual([])
    expect(new Set(told.codes)).toEqual(new Set([0]))
    expect(told.requests).toBeGreaterThan(PER_SECOND * 60)
    expect(told.streams).toBeGreaterThan(STREAMS * 5)
    // Nothing that reached a provider was asked again.
    expect(told.calls).toBe(told.requests + told.streams)
  },
)
