// A real Prometheus before two gateways under load with faults: every query of every panel has an answer, each alert
// fires on its cause, and none fires on anything else. `SLUICE_PICTURES=<folder>` keeps drawings of the dashboards.

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../support/caller.ts'
import { DASHBOARDS } from '../support/dashboards.ts'
import { drawDashboards } from '../support/draw-dashboards.ts'
import { filledIn } from '../support/grafana.ts'
import { FAIL, type ObservedFleet, startObservedFleet, WINDOW_S } from '../support/observed-fleet.ts'
import { slowFirstToken, status } from '../support/scripted-provider.ts'
import { toTable } from '../support/table.ts'

let fleet: ObservedFleet
let watch: ReturnType<typeof watchAlerts>
let beganS: number

beforeAll(async () => {
  beganS = Date.now() / 1000
  fleet = await startObservedFleet()
  watch = watchAlerts(fleet)
}, 400_000)
afterAll(async () => {
  watch?.stop()
  await fleet?.stop()
})

/** What fires, over time; what fires and is not allowed to is kept. */
function watchAlerts({ prometheus }: ObservedFleet) {
  let allowed: readonly string[] = []
  let firing: readonly string[] = []
  const strays = new Set<string>()
  const rows: (string | number)[][] = []
  const timer = setInterval(async () => {
    const alerts = await prometheus.alerts().catch(() => [])
    firing = alerts
      .filter(({ state }) => state === 'firing')
      .map(({ name, labels }) =>
        [name, labels.tier ?? labels.route ?? labels.agent ?? labels.secret ?? labels.instance]
          .join(' ')
          .trim(),
      )
      .sort()
    for (const one of firing) if (!allowed.includes(one)) strays.add(`${one} beside ${allowed}`)
  }, 250)
  return {
    rows,
    /** The cause is there, is gone again, and in between exactly these fire. */
    async during(cause: string, alerts: readonly string[], make: () => unknown): Promise<void> {
      const before = firing
      allowed = [...before, ...alerts].sort()
      const atMs = performance.now()
      await make()
      await eventually(() => allowed.every((one) => firing.includes(one)), `${allowed} fire`, 60_000)
      rows.push([cause, alerts.join(', '), Math.round((performance.now() - atMs) / 1000)])
      expect([...strays]).toEqual([])
    },
    /** All but these end. */
    async quiet(but: readonly string[] = []): Promise<void> {
      const isQuiet = () => firing.join() === [...but].sort().join()
      await eventually(isQuiet, `only ${but} fire`, 90_000).catch((error: unknown) => {
        throw new Error(`${firing} still fire; answers ${JSON.stringify(fleet.seen)}`, { cause: error })
      })
      allowed = but
      expect([...strays]).toEqual([])
    },
    stop: () => clearInterval(timer),
  }
}

describe('alerts, each by its cause', () => {
  it('none fires while all is well, refusals and unpriced calls included', async () => {
    await fleet.burst('planner', 'flash', { perSecond: 60, forMs: WINDOW_S * 1000 + 3_000 })
    await watch.quiet()
    const { prometheus, first, second } = fleet
    expect([...(await prometheus.healthyTargets())].sort()).toEqual([first, second].sort())
    // The load was there: as Prometheus counts it, and its callers.
    expect(fleet.seen[200]).toBeGreaterThan(150)
    expect(fleet.seen[429]).toBeGreaterThan(10)
    const [counted] = await prometheus.query('sum(sluice_requests_total{status="200"})')
    expect(counted?.points[0]?.[1]).toBeGreaterThan((fleet.seen[200] ?? 0) * 0.9)
  })

  it('a first tier that fails', { timeout: 200_000 }, async () => {
    await watch.during('first tier 503', ['SluiceDegraded auto', 'SluiceTierDown sovereign'], () =>
      fleet.frontier.script(status(503)),
    )
    fleet.frontier.script(fleet.well)
    await watch.quiet()
  })

  it('more than five 503s for one agent; five are none', async () => {
    const fail = async (times: number) => {
      for (let i = 0; i < times; i += 1) {
        expect(await fleet.ask('clerk', 'archive', { content: FAIL })).toBe(503)
        expect(await fleet.ask('clerk', 'archive')).toBe(200)
      }
    }
    await fail(5)
    await sleep(4_000)
    await watch.quiet()
    await watch.during('503s for one agent', ['SluiceAgent503 clerk'], () => fail(2))
    await watch.quiet()
  })

  it('requests that queue; a deployment that is slow is none', async () => {
    fleet.spare.script(slowFirstToken(1_500))
    await Promise.all([1, 2, 3, 4].map(() => fleet.ask('planner', 'flash', { stream: true })))
    fleet.spare.script(fleet.well)
    await watch.during('a queue', ['SluiceOverhead'], () =>
      fleet.burst('writer', 'gpt-oss-120b', { perSecond: 12, forMs: 8_000 }),
    )
    await watch.quiet()
  })

  it('a key that is used outside its hours; within them it may be', async () => {
    await watch.during('a key at night', ['SluiceKeyOutsideHours env:NIGHT_KEY'], async () =>
      expect(await fleet.ask('planner', 'night')).toBe(200),
    )
    await watch.quiet()
    const [within] = await fleet.prometheus.query(
      'sum(sluice_key_uses_outside_hours_total{provider="frontier"})',
    )
    expect(within?.points[0]?.[1]).toBe(0)
  })

  it('a key that is older than its rotation; one that will be soon is none', async () => {
    await watch.during('an old key', [`SluiceSecretOld file:${fleet.spareKey}`], () =>
      fleet.writeSpareKey('the-second-key-of-the-spare', 91),
    )
    fleet.writeSpareKey('the-third-key-of-the-spare', 0)
    await watch.quiet()
  })

  it('a budget that is nearly used; a half is none', async () => {
    const spend = async (share: number, by: 'max' | 'min') => {
      const used = `${by}(sluice_limit_budget_used_ratio{agent="monitor"})`
      while (((await fleet.prometheus.query(used))[0]?.points[0]?.[1] ?? 0) < share) {
        expect(await fleet.ask('monitor', 'auto')).toBe(200)
        await sleep(300)
      }
    }
    await spend(0.5, 'max')
    await sleep(3_000)
    await watch.quiet()
    // Until both gateways know, for one of them is about to go.
    await watch.during('budget', ['SluiceBudget monitor'], () => spend(0.8, 'min'))
  })

  it('a gateway that is gone', async () => {
    const kept = ['SluiceBudget monitor']
    await watch.during('gateway killed', [`SluiceDown ${fleet.second}`], () => fleet.killSecond())
    await fleet.startSecond()
    fleet.revoke('writer')
    await watch.quiet(kept)
  })

  it('Redis away', async () => {
    const kept = ['SluiceBudget monitor']
    const both = [fleet.first, fleet.second].map((address) => `SluiceRedisAway ${address}`)
    await watch.during('Redis killed', both, () => fleet.redis.kill9())
    await fleet.restartRedis()
    await watch.quiet(kept)
  })
})

describe('dashboards', () => {
  it('each query of each panel has an answer', async () => {
    await sleep(3_000)
    const toS = Date.now() / 1000
    const over = { from: Math.floor(beganS), to: Math.ceil(toS), step: 1 }
    const range = `${over.to - over.from}s`
    const empty: string[] = []
    const rows: (string | number)[][] = []
    for (const { uid, rows: parts } of DASHBOARDS) {
      let [queries, series] = [0, 0]
      for (const { title, queries: asked } of parts.flatMap(({ panels }) => panels)) {
        for (const { expr, instant } of asked) {
          const query = filledIn(expr, { interval: '5s', range })
          const found = instant
            ? await fleet.prometheus.query(query)
            : await fleet.prometheus.range(query, over)
          const values = found.flatMap(({ points }) => points.map(([, value]) => value))
          // All that is drawn has happened here: nothing but zeroes would be no answer either.
          if (!values.some((value) => value > 0)) empty.push(`${uid}: ${title}: ${query}`)
          queries += 1
          series += found.length
        }
      }
      rows.push([uid, queries, series])
    }
    process.stdout.write(
      `\n${toTable(['cause', 'alerts', 's until all fire'], watch.rows)}\n\n${toTable(['dashboard', 'queries', 'series'], rows)}\n\nanswers by status: ${JSON.stringify(fleet.seen)}\n`,
    )
    const { SLUICE_PICTURES: folder } = process.env
    if (folder !== undefined) await drawDashboards(fleet.prometheus, { ...over, folder })
    expect(empty).toEqual([])
  })

  it('a deployment is in one state at a time', async () => {
    const over = { from: Math.floor(beganS), to: Math.ceil(Date.now() / 1000), step: 1 }
    const states = await fleet.prometheus.range(
      'max(count by (instance, deployment) (sluice_deployment_state))',
      over,
    )
    expect(new Set(states.flatMap(({ points }) => points.map(([, value]) => value)))).toEqual(new Set([1]))
    const changed = await fleet.prometheus.query(
      'count(count_over_time(sluice_deployment_state{state="unavailable"}[10m]))',
    )
    expect(changed[0]?.points[0]?.[1]).toBeGreaterThan(0)
  })

  it('each heat map leads to requests', async () => {
    const maps = DASHBOARDS.flatMap(({ rows }) => rows.flatMap(({ panels }) => panels)).filter(
      ({ kind }) => kind === 'heatmap',
    )
    const over = { from: Math.floor(beganS), to: Math.ceil(Date.now() / 1000) }
    for (const { title, queries } of maps) {
      const expr = filledIn(queries[0]?.expr ?? '', { interval: '5s', range: '60s' })
      const ids = (await fleet.prometheus.exemplars(expr, over)).map(({ request_id: id }) => id)
      expect(ids, title).toEqual(expect.arrayContaining([expect.stringMatching(/^req_/)]))
    }
  })

  it('each variable has its values', async () => {
    const { prometheus } = fleet
    expect(await prometheus.labelValues('agent', 'sluice_requests_total')).toEqual(
      expect.arrayContaining(['analyst', 'clerk', 'monitor', 'planner', 'writer']),
    )
    for (const { label, metric } of DASHBOARDS.flatMap(({ variables }) => variables))
      expect((await prometheus.labelValues(label, metric)).length, `${label} of ${metric}`).toBeGreaterThan(2)
  })
})
