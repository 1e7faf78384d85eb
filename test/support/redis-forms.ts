// Redis as a Sentinel set and as a Cluster, of real processes on loopback. Made with commands over the tests' own
// connection; every wait asks the servers and has an end.

import { freePort } from './ports.ts'
import { type RedisOptions, type RedisValue, startRedis, type TestRedis } from './redis.ts'
import { createTcpProxy, type TcpProxy } from './tcp-proxy.ts'

export interface SentinelSet {
  /** Name that the sentinels watch. */
  readonly name: string
  readonly master: TestRedis
  readonly replica: TestRedis
  readonly sentinels: readonly TestRedis[]
  stop(): Promise<void>
}

/** What the sentinels think; commands as in a configuration file. */
export interface SentinelOptions {
  /** Added to the master and its replica. */
  readonly args?: readonly string[]
  /** Asked for by the master and its replica, and by the sentinels. */
  readonly passwords?: { readonly data: string; readonly sentinel: string }
}

/** One master with a replica, watched by three sentinels that know each other; down after 1 s. */
export async function startSentinelSet(options: SentinelOptions = {}): Promise<SentinelSet> {
  const name = 'main'
  const started: TestRedis[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((one) => one.stop()))
  }
  const start = async (how: RedisOptions): Promise<TestRedis> => {
    const one = await startRedis(how)
    started.push(one)
    return one
  }
  try {
    const [masterPort, replicaPort] = [await freePort(), await freePort()]
    const { passwords } = options
    const login = passwords && ['--requirepass', passwords.data, '--masterauth', passwords.data]
    const args = ['--repl-diskless-sync-delay', '0', ...(login ?? []), ...(options.args ?? [])]
    const [master, replica] = await Promise.all([
      start({ port: masterPort, args }),
      start({ port: replicaPort, args: [...args, '--replicaof', '127.0.0.1', String(masterPort)] }),
    ])
    if (passwords) for (const one of [master, replica]) await one.command('AUTH', passwords.data)
    await until('the replica is in step', async () =>
      String(await replica.command('INFO', 'replication')).includes('master_link_status:up'),
    )
    const lines = [
      `sentinel monitor ${name} 127.0.0.1 ${masterPort} 2`,
      `sentinel down-after-milliseconds ${name} 1000`,
      `sentinel failover-timeout ${name} 1000`,
      ...(passwords ? [`sentinel auth-pass ${name} ${passwords.data}`] : []),
      ...(passwords
        ? [`requirepass ${passwords.sentinel}`, `sentinel sentinel-pass ${passwords.sentinel}`]
        : []),
    ]
    const sentinels = await Promise.all([1, 2, 3].map(() => start({ sentinel: lines })))
    if (passwords) for (const one of sentinels) await one.command('AUTH', passwords.sentinel)
    // Sentinels meet through messages every 2 s and look at replicas every 10 s, unless told otherwise. Not more
    // pings: what is known of a replica counts for five of them, and is read once a second during a failover.
    const often = ['PUBLISH-PERIOD', 100, 'INFO-PERIOD', 200, 'PING-PERIOD', 600, 'ASK-PERIOD', 100]
    await Promise.all(sentinels.map((one) => one.command('SENTINEL', 'DEBUG', ...often)))
    await until('the sentinels know each other and the replica', async () => {
      const views = await Promise.all(sentinels.map((one) => one.command('SENTINEL', 'MASTER', name)))
      return views.every(
        (view) => field(view, 'num-other-sentinels') === '2' && field(view, 'num-slaves') === '1',
      )
    })
    return { name, master, replica, sentinels, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

export interface ClusterSet {
  /** Masters at the start; each has a third of the slots. */
  readonly masters: readonly [TestRedis, TestRedis, TestRedis]
  /** Of the first master. */
  readonly replica: TestRedis | undefined
  /** Stands before the first master, under the address that the cluster tells clients. */
  readonly proxy: TcpProxy
  /** The master whose slots hold the key, as it was at the start. */
  masterOf(key: string): Promise<TestRedis>
  /** Moves the slot of a key with all that is in it; `between` is called after each key, while both sides are open. */
  moveSlot(key: string, from: TestRedis, to: TestRedis, between?: () => Promise<void>): Promise<void>
  stop(): Promise<void>
}

export interface ClusterOptions {
  readonly args?: readonly string[]
  /** With a replica of the first master. */
  readonly replica?: boolean
}

const SLOTS = 16_384

/** Three masters that agree; a node is taken for dead after 1 s. */
export async function startCluster(options: ClusterOptions = {}): Promise<ClusterSet> {
  const started: TestRedis[] = []
  let proxy: TcpProxy | undefined
  const stop = async (): Promise<void> => {
    await Promise.all([...started.map((one) => one.stop()), proxy?.close()])
  }
  const start = async (announced?: number): Promise<TestRedis> => {
    // The port of the bus is otherwise 10,000 higher, and may be somebody's.
    const bus = await freePort()
    const cluster = [
      '--cluster-enabled',
      'yes',
      '--cluster-port',
      String(bus),
      '--cluster-node-timeout',
      '1000',
    ]
    // A replica counts once it has heard something from its master.
    const quick = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1']
    const told = announced === undefined ? [] : ['--cluster-announce-port', String(announced)]
    const one = await startRedis({ args: [...cluster, ...quick, ...told, ...(options.args ?? [])] })
    started.push(one)
    buses.set(one, bus)
    return one
  }
  const buses = new Map<TestRedis, number>()
  try {
    const front = await freePort()
    const [first, second, third] = await Promise.all([start(front), start(), start()])
    proxy = await createTcpProxy({ target: first, port: front })
    const masters = [first, second, third] as const
    const replica = options.replica === true ? await start() : undefined
    const all = replica === undefined ? masters : [...masters, replica]
    await Promise.all(all.map((one, i) => one.command('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)))
    await Promise.all(
      masters.map((one, i) => {
        const from = Math.floor((i * SLOTS) / 3)
        return one.command('CLUSTER', 'ADDSLOTSRANGE', from, Math.floor(((i + 1) * SLOTS) / 3) - 1)
      }),
    )
    // Everybody meets everybody: by hearsay alone it takes seconds.
    for (const one of all)
      for (const other of all)
        if (one !== other)
          await one.command('CLUSTER', 'MEET', '127.0.0.1', other.port, buses.get(other) ?? 0)
    const known = `cluster_known_nodes:${all.length}`
    await until('the nodes agree', async () => {
      const views = await Promise.all(all.map((one) => one.command('CLUSTER', 'INFO')))
      return views.every((view) => /cluster_state:ok/.test(String(view)) && String(view).includes(known))
    })
    const ids = new Map<TestRedis, string>()
    for (const one of all) ids.set(one, String(await one.command('CLUSTER', 'MYID')))
    if (replica !== undefined) {
      await replica.command('CLUSTER', 'REPLICATE', ids.get(first) ?? '')
      await until('the replica is in step', async () =>
        String(await replica.command('INFO', 'replication')).includes('master_link_status:up'),
      )
      // The others must have heard of it, or nobody votes for it.
      await until('everybody knows the replica', async () => {
        const views = await Promise.all(masters.map((one) => one.command('CLUSTER', 'SLOTS')))
        return views.every((view) => JSON.stringify(view).includes(String(replica.port)))
      })
    }
    return {
      masters,
      replica,
      proxy,
      async masterOf(key) {
        const slot = Number(await first.command('CLUSTER', 'KEYSLOT', key))
        const index = masters.findIndex((_, i) => slot < Math.floor(((i + 1) * SLOTS) / 3))
        return masters[index] ?? third
      },
      async moveSlot(key, from, to, between = async () => {}) {
        const slot = Number(await from.command('CLUSTER', 'KEYSLOT', key))
        const [fromId, toId] = [ids.get(from) ?? '', ids.get(to) ?? '']
        await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId)
        await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId)
        await between()
        for (;;) {
          const [next] = listOf(await from.command('CLUSTER', 'GETKEYSINSLOT', slot, 1))
          if (typeof next !== 'string') break
          await from.command('MIGRATE', '127.0.0.1', to.port, next, 0, 5_000)
          await between()
        }
        // The new owner first: for a moment both know of it, never none.
        for (const one of [to, from, ...masters]) await one.command('CLUSTER', 'SETSLOT', slot, 'NODE', toId)
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** A field of a reply that is a flat list of names and values. */
export function field(reply: RedisValue, name: string): RedisValue | undefined {
  const flat = listOf(reply)
  const at = flat.findIndex((value, i) => i % 2 === 0 && value === name)
  return at < 0 ? undefined : flat[at + 1]
}

function listOf(reply: RedisValue): RedisValue[] {
  return Array.isArray(reply) ? reply : []
}

/** Asks until it is so. */
export async function until(what: string, probe: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const giveUpAt = performance.now() + timeoutMs
  while (!(await probe().catch(() => false))) {
    if (performance.now() > giveUpAt)
      throw new Error(`within ${timeoutMs} ms it did not come to pass that ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
