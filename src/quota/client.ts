// The client library behind one small interface, the same for one Redis, for Sentinel and for Cluster. Nothing is
// sent twice, nothing waits for a connection, every connection comes back by itself. It never logs a URL or a command:
// there may be a password in them.

import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis'
import type { RedisAddress, RedisLogin, RedisServers } from '../config/redis-servers.ts'
import type { Call, Script } from './script.ts'
import type { Log, Timers } from './store.ts'

export interface RedisClient {
  /** Whether calls are sent. In a cluster the map of slots is then known; one node may be away all the same. */
  readonly ready: boolean
  /** Times something was sent and answered for: a call, the scripts of a new connection. */
  readonly trips: number
  /** Starts connecting, then reconnects for ever. True when ready; false when not within a second. Never rejects. */
  connect(): Promise<boolean>
  /** Calls each time calls can be sent (true), and when they cannot any more (false). */
  onConnection(listener: (ready: boolean) => void): void
  /**
   * Runs a script, with its text where the node does not know it: after a restart, a failover, SCRIPT FLUSH, or on
   * the node that a slot has moved to. All keys must be of one slot.
   * @throws RedisCallError (as a rejection)
   */
  run(script: Script, call: Call): Promise<unknown>
  /** Any other command, routed by its first key. @throws RedisCallError (as a rejection) */
  command(name: string, ...args: readonly (string | number)[]): Promise<unknown>
  /** Tells every subscriber, in a cluster on all nodes. @throws RedisCallError (as a rejection) */
  publish(channel: string, text: string): Promise<void>
  /** Listens on a connection of its own, which comes back by itself. Returns what ends it. */
  subscribe(channel: string, subscriber: Subscriber): () => void
  /** Lets go of all connections; what is under way is lost. */
  close(): void
}

export interface Subscriber {
  message(text: string): void
  /** The subscription stands, for the first time or again: what was published before may have been missed. */
  active?: (() => void) | undefined
  /** Redis does not allow it; it is tried again after a while. */
  refused?: ((reason: string) => void) | undefined
}

/** A call that failed. `replied`: Redis said so itself and ran none of it; else it may have run. */
export class RedisCallError extends Error {
  override readonly name = 'RedisCallError'
  readonly replied: boolean

  // Not the error itself as the cause: the library hangs the command with all its arguments on it.
  constructor(message: string, replied: boolean) {
    super(message)
    this.replied = replied
  }
}

export interface RedisClientOptions {
  readonly timers: Timers
  readonly log: Log
  /** 0..1, for the jitter of reconnects. */
  readonly random: () => number
  /** Sent to each node ahead of everything else on a new connection, so that the first call needs no second trip. */
  readonly scripts: readonly Script[]
}

const CONNECT_MS = 1_000
/** How long a connection lives on which nothing comes back, and how often it is looked at meanwhile. */
const SILENCE_MS = 2_000
const LOOKS = 4
/** How often a quiet subscription is asked whether it still stands. */
const PING_MS = 5_000
/** When a subscription that is not allowed is tried again. */
const REFUSED_MS = 30_000
/** How often the map of slots is read although nothing was moved, so that a quiet client knows of a failover. */
const SLOTS_MS = 10_000

/** Makes the client; nothing is sent before `connect`. */
export function createRedisClient(servers: RedisServers, options: RedisClientOptions): RedisClient {
  const { timers, log, random, scripts } = options
  const jittered = (delayMs: number): number => delayMs * (0.8 + 0.4 * random())
  const retry = (times: number): number => jittered(Math.min(25 * 2 ** Math.min(times, 10), 500))
  const client =
    servers.kind === 'cluster'
      ? toCluster(servers, retry)
      : new Redis({ ...toRedis(servers), retryStrategy: retry, sentinelRetryStrategy: retry })

  let listener: (ready: boolean) => void = () => {}
  let onceReady = (): void => {}
  let ready = false
  let closed = false
  let complained = false
  let trips = 0

  function setReady(now: boolean): void {
    if (ready === now || closed) return
    ready = now
    if (now) complained = false
    listener(now)
    if (now) onceReady()
  }

  function loadScripts(node: Redis): void {
    trips++
    for (const { lua } of scripts) node.script('LOAD', lua).catch(ignore)
  }

  if (client instanceof Cluster) {
    client.on('+node', (node: Redis) => {
      watchSilence(node, timers)
      node.on('ready', () => loadScripts(node))
      connectMaster(node)
    })
    // Only with its connections: the first call to a node would wait for the handshake.
    client.on('ready', () => {
      void Promise.all(client.nodes('master').map(connectMaster)).then(() =>
        setReady(client.status === 'ready'),
      )
    })
  } else {
    watchSilence(client, timers)
    client.on('ready', () => {
      loadScripts(client)
      setReady(true)
    })
  }
  client.on('close', () => setReady(false))
  client.on('error', (error: unknown) => {
    // The library would go on in database 0, where somebody else may keep his own.
    if (client instanceof Redis && isNoDatabase(error)) client.disconnect(true)
    // One line per outage. Only the message: the library hangs the failed command, AUTH included, on the error.
    if (complained || closed) return
    complained = true
    log.warn({ reason: toReason(error) }, 'redis connection failed')
  })
  client.on('end', () => {
    // The library gives up in a few states; an outage must end by itself all the same.
    setReady(false)
    if (!closed) timers.after(jittered(500), () => client.connect().catch(ignore))
  })

  const newSubscription = () => new Redis({ ...toSubscription(servers, client, random), retryStrategy: null })
  const listening = createListening(newSubscription, timers, () => jittered(250))
  const watching = servers.kind === 'sentinel' ? watchFailover(servers) : undefined

  /**
   * The connection to an old master that was only cut off from the others stands, and would go on taking writes that
   * are lost with the failover: whoever hears of a new master leaves the old one.
   */
  function watchFailover({ sentinels, sentinelLogin, master }: Extract<RedisServers, { kind: 'sentinel' }>) {
    let next = Math.floor(random() * sentinels.length)
    const newWatch = () =>
      new Redis({
        ...BASE,
        ...toConnection(sentinels[next++ % sentinels.length], sentinelLogin),
        enableReadyCheck: false,
        retryStrategy: null,
      })
    const watch = createListening(newWatch, timers, () => jittered(1_000))
    return {
      ...watch,
      start: () =>
        watch.subscribe('+switch-master', {
          message: (text) => {
            const [name, , , host, port] = text.split(' ')
            if (name !== master) return
            // Whoever asked during the failover is there already.
            const isThere = ({ status, stream }: Redis): boolean =>
              status === 'ready' && `${stream.remoteAddress}:${stream.remotePort}` === `${host}:${port}`
            listening.leaveUnless(isThere)
            if (client instanceof Redis && !isThere(client) && client.status !== 'reconnecting')
              client.disconnect(true)
          },
        }),
    }
  }

  async function run(script: Script, { keys, args }: Call): Promise<unknown> {
    trips++
    try {
      return await client.evalsha(script.sha, keys.length, ...keys, ...args)
    } catch (error) {
      if (!isNoScript(error)) throw toCallError(error)
    }
    return runText(script, { keys, args })
  }

  async function runText(script: Script, { keys, args }: Call): Promise<unknown> {
    trips++
    try {
      return await client.eval(script.lua, keys.length, ...keys, ...args)
    } catch (error) {
      throw toCallError(error)
    }
  }

  async function command(name: string, ...args: readonly (string | number)[]): Promise<unknown> {
    trips++
    try {
      return await client.call(name, ...args)
    } catch (error) {
      throw toCallError(error)
    }
  }

  return {
    get ready() {
      return ready && client.status === 'ready'
    },
    get trips() {
      return trips
    },
    connect() {
      return new Promise((resolve) => {
        const cancel = timers.after(CONNECT_MS, () => resolve(ready))
        onceReady = () => {
          cancel()
          resolve(true)
        }
        watching?.start()
        client.connect().catch(ignore)
      })
    },
    onConnection(call) {
      listener = call
    },
    run,
    command,
    async publish(channel, text) {
      await command('PUBLISH', channel, text)
    },
    subscribe: listening.subscribe,
    close() {
      closed = true
      ready = false
      listening.close()
      watching?.close()
      client.disconnect()
    },
  }
}

// --- options of the library --------------------------------------------------------------------------------------

/** A lost reply must not make a command run twice, and no request waits for a connection (reliability §1.4). */
const BASE = {
  lazyConnect: true,
  connectionName: 'sluice',
  disableClientInfo: true,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  maxRetriesPerRequest: 0,
  connectTimeout: CONNECT_MS,
  disconnectTimeout: CONNECT_MS,
  // No `commandTimeout`, no `socketTimeout`: these timers fire before a reply is read when our event loop stood still.
  // Whoever calls has a shorter time of its own; what a black hole holds is freed by `watchSilence`.
  sentinelCommandTimeout: CONNECT_MS,
} as const satisfies RedisOptions

const toReconnect = (error: Error): boolean => error.message.includes('READONLY')

function toConnection(address: RedisAddress | undefined, login: RedisLogin): RedisOptions {
  return { ...address, ...toLogin(login) }
}

function toLogin({
  username,
  password,
  tls,
}: RedisLogin): Pick<RedisOptions, 'username' | 'password' | 'tls'> {
  return {
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(tls !== undefined && { tls: { ...tls } }),
  }
}

function toRedis(servers: Exclude<RedisServers, { kind: 'cluster' }>): RedisOptions {
  const { login, database } = servers
  const options: RedisOptions = {
    ...BASE,
    db: database,
    enableOfflineQueue: false,
    reconnectOnError: toReconnect,
  }
  if (servers.kind === 'url') return { ...options, ...toConnection(servers.address, login) }
  const { username, password, tls } = servers.sentinelLogin
  return {
    ...options,
    ...toLogin(login),
    enableTLSForSentinelMode: login.tls !== undefined,
    sentinels: servers.sentinels.map((address) => ({ ...address })),
    name: servers.master,
    ...(username !== undefined && { sentinelUsername: username }),
    ...(password !== undefined && { sentinelPassword: password }),
    ...(tls !== undefined && { sentinelTLS: { ...tls } }),
  }
}

function toCluster(
  { nodes, login }: Extract<RedisServers, { kind: 'cluster' }>,
  retry: (times: number) => number,
): Cluster {
  const options: ClusterOptions = {
    lazyConnect: true,
    // Calls wait only for the handshake of a node that a slot has just moved to, at most CONNECT_MS; `ready` keeps
    // them from waiting for the cluster.
    enableOfflineQueue: true,
    // MOVED, ASK and TRYAGAIN say that nothing ran. A reshard answers the last for as long as the keys of a call are
    // not all on one side, and each round of it takes up to three redirections.
    maxRedirections: 16,
    retryDelayOnTryAgain: 10,
    // The library would send again what was under way on a lost connection: it may have run.
    retryDelayOnFailover: 0,
    // Redis refuses for longer than a call waits; what to do instead is the caller's to say.
    retryDelayOnClusterDown: 0,
    slotsRefreshTimeout: CONNECT_MS,
    slotsRefreshInterval: SLOTS_MS,
    clusterRetryStrategy: retry,
    // Names stay names: the certificate is made out to them.
    dnsLookup: (host, callback) => callback(null, host),
    redisOptions: { ...BASE, ...toLogin(login), reconnectOnError: toReconnect },
  }
  return new Cluster(
    nodes.map((node) => ({ ...node })),
    options,
  )
}

/** Where to subscribe: in a cluster at any node, another one each time. */
function toSubscription(servers: RedisServers, client: Redis | Cluster, random: () => number): RedisOptions {
  if (servers.kind !== 'cluster') return { ...toRedis(servers), sentinelRetryStrategy: () => null }
  const live = client instanceof Cluster ? client.nodes('all') : []
  const known = live.map(({ options: { host, port } }) => ({ host: host ?? '', port: port ?? 0 }))
  const places = known.length > 0 ? known : servers.nodes
  return { ...BASE, ...toConnection(places[Math.floor(random() * places.length)], servers.login) }
}

/** Never fails; a node that is away is found again by its slots. */
async function connectMaster(node: Redis): Promise<void> {
  if (node.options.readOnly || node.status === 'ready' || node.status === 'end') return
  if (node.status === 'wait') return node.connect().catch(ignore)
  await new Promise<void>((resolve) => {
    node.once('ready', resolve)
    node.once('end', resolve)
  })
}

/**
 * Ends connections on which nothing comes back, a handshake neither. By looks and not by one timer: a stall of our own
 * counts for one look, and what came meanwhile is read before the next. One that was quiet is asked before.
 */
function watchSilence(redis: Redis, timers: Timers): void {
  redis.on('connect', () => {
    const { stream } = redis
    let heard = 0
    let silent = 0
    const look = (): void => {
      if (stream.destroyed) return
      silent = stream.bytesRead === heard ? silent + 1 : 0
      heard = stream.bytesRead
      if (silent >= LOOKS) {
        stream.destroy(new Error(`Redis was silent for ${SILENCE_MS} ms.`))
        return
      }
      if (silent === LOOKS - 1 && redis.status === 'ready') redis.ping().catch(ignore)
      lookLater()
    }
    const lookLater = (): void => void timers.after(SILENCE_MS / LOOKS, () => timers.soon(look))
    lookLater()
  })
}

// --- subscriptions -----------------------------------------------------------------------------------------------

/** Keeps a connection for as long as there are channels; each time a new one, so that it may go elsewhere. */
function createListening(open: () => Redis, timers: Timers, delayMs: () => number) {
  const channels = new Map<string, Set<Subscriber>>()
  let connection: Redis | undefined
  let cancel = (): void => {}
  let isRefused = false

  function start(): void {
    const made = open()
    watchSilence(made, timers)
    connection = made
    made.on('error', ignore)
    made.on('message', (channel: string, text: string) => {
      for (const subscriber of channels.get(channel) ?? []) subscriber.message(text)
    })
    made.on('ready', () => {
      for (const channel of channels.keys()) enter(made, channel)
      ping(made)
    })
    made.once('end', () => {
      if (connection !== made) return
      cancel()
      cancel = timers.after(isRefused ? REFUSED_MS : delayMs(), start)
      isRefused = false
    })
    made.connect().catch(ignore)
  }

  function enter(redis: Redis, channel: string): void {
    redis.subscribe(channel).then(
      () => {
        for (const subscriber of channels.get(channel) ?? []) subscriber.active?.()
      },
      (error: unknown) => {
        if (error instanceof Error && error.name === 'ReplyError') {
          isRefused = true
          for (const subscriber of channels.get(channel) ?? []) subscriber.refused?.(error.message)
        }
        redis.disconnect()
      },
    )
  }

  function ping(redis: Redis): void {
    cancel()
    cancel = timers.after(PING_MS, () => {
      redis.ping().then(
        () => connection === redis && redis.status === 'ready' && ping(redis),
        () => redis.disconnect(),
      )
    })
  }

  function close(): void {
    cancel()
    const last = connection
    connection = undefined
    last?.disconnect()
  }

  return {
    subscribe(channel: string, subscriber: Subscriber): () => void {
      const those = channels.get(channel) ?? new Set()
      channels.set(channel, those.add(subscriber))
      if (connection === undefined) start()
      else if (connection.status === 'ready') enter(connection, channel)
      return () => {
        those.delete(subscriber)
        if (those.size > 0) return
        channels.delete(channel)
        if (channels.size === 0) close()
        else connection?.unsubscribe(channel).catch(ignore)
      }
    },
    /** Goes elsewhere, or to the same place again. */
    leaveUnless(isThere: (redis: Redis) => boolean): void {
      if (connection !== undefined && !isThere(connection)) connection.disconnect()
    },
    close,
  }
}

// --- errors ------------------------------------------------------------------------------------------------------

function ignore(): void {}

function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.includes('NOSCRIPT')
}

function isNoDatabase(error: unknown): boolean {
  return error instanceof Error && error.message.includes('DB index is out of range')
}

function toCallError(error: unknown): RedisCallError {
  const message = error instanceof Error ? error.message : String(error)
  const replied = error instanceof Error && error.name === 'ReplyError'
  // Redirections that came to no end: each of them says that nothing ran.
  return new RedisCallError(message, replied || message.startsWith('Too many Cluster redirections'))
}

const UNTRUSTED: ReadonlySet<unknown> = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE',
])

/** In words for the log; of a cluster what the last node said. */
function toReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if ('lastNodeError' in error && error.lastNodeError instanceof Error)
    return `${error.message} ${toReason(error.lastNodeError)}`
  const untrusted = 'code' in error && UNTRUSTED.has(error.code)
  return untrusted
    ? `${error.message}: the certificate of Redis is from an authority that is not trusted; redis.tls.ca names one that is`
    : error.message
}
