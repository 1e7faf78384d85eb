#!/usr/bin/env node
// The process: arguments, environment, signals, start, the order of the drain. Makes everything that outlives a Snapshot
// and hands it in by name. The only file that touches `process`.

import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { availableParallelism } from 'node:os'
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus'
import { MeterProvider } from '@opentelemetry/sdk-metrics'
import pino from 'pino'
import type { AdminDeps } from './admin/app.ts'
import { createAdminServer } from './admin/server.ts'
import { createBag } from './bytes/bag.ts'
import { isObject } from './bytes/json-value.ts'
import { createLater } from './bytes/later.ts'
import { toBanner } from './cli/banner.ts'
import { runCommand } from './cli/commands.ts'
import type { Io } from './cli/io.ts'
import { BEARER_PREFIX, checksumIsRight, hasSluicePrefix, mintBearer } from './config/bearer.ts'
import { createEnvironmentReader } from './config/environment-reader.ts'
import { formatProblem } from './config/problems.ts'
import { createReader, isSources } from './config/reader.ts'
import type { Snapshot } from './config/snapshot.ts'
import { createWorkerReader, readBegin } from './config/worker-reader.ts'
import { formats, secretPartsOf } from './formats/index.ts'
import { buildGateway, type Gateway, type Stores } from './gateway.ts'
import { drain, LAST_WORDS_MS } from './http/drain.ts'
import { toErrorResponse } from './http/error-body.ts'
import { createIds } from './http/ids.ts'
import {
  type Active,
  createFrontDoor,
  createSweep,
  type FrontDoorDeps,
  type Phase,
  toBlockList,
} from './http/listen.ts'
import { watchLoop } from './http/loop.ts'
import { createOverload, OVERLOAD_EVERY_MS } from './http/overload.ts'
import { freePort, listen, portOf } from './http/port.ts'
import { createRevocations } from './identity/revocations.ts'
import { createSharedRevocations } from './identity/shared-revocations.ts'
import { createOperators, type Operators } from './operators.ts'
import { type Backing, createBacking } from './quota/backing.ts'
import { createRedisClient } from './quota/client.ts'
import { answerVisits, createRemoteAuthority } from './quota/ipc.ts'
import { NOTHING_IN_HAND } from './quota/leases.ts'
import { createMemoryAuthority } from './quota/memory.ts'
import { createMeter, type Meter as QuotaMeter } from './quota/meter.ts'
import { SHADOWS } from './quota/outage.ts'
import { budgetsShown } from './quota/shown.ts'
import { systemTimers } from './quota/store.ts'
import { createReload, watchedPaths } from './reload.ts'
import { describeError } from './secrets/describe-error.ts'
import {
  createKeyring,
  literalSecretsOf,
  referencesOf,
  secretAges,
  secretsShown,
  verifySecrets,
} from './secrets/keyring.ts'
import { resolveRedis, verifyRedis } from './secrets/redis-access.ts'
import type { Surroundings } from './secrets/reference.ts'
import { createRotationWatch, rotationsOf } from './secrets/rotation.ts'
import { createScrubber } from './secrets/scrubber.ts'
import { createScrubbedWritable, patchStream } from './secrets/sink.ts'
import { watchFiles } from './secrets/watch.ts'
import type { Clock } from './types.ts'
import { type Checks, createChecks } from './upstream/checks.ts'
import { createHealth } from './upstream/health.ts'
import { createHedges } from './upstream/hedges.ts'
import {
  answerHint,
  createLinkCarrier,
  createPlaces,
  createRedisCarrier,
  HINTS_CHANNEL,
} from './upstream/hint-carriers.ts'
import { createSharedHints, type Hints, NO_HINTS, type SharedHints } from './upstream/hints.ts'
import { createCannedReply } from './upstream/in-process/canned-reply.ts'
import { createSimulated } from './upstream/in-process/simulated.ts'
import { createKeys } from './upstream/keys.ts'
import { createPace } from './upstream/pace.ts'
import { createRetryBudget } from './upstream/retry-budget.ts'
import type { Timers } from './upstream/timers.ts'
import { createTransport } from './upstream/transport.ts'
import { START, VENDORS } from './upstream/vendors.ts'
import { createExemplars } from './usage/exemplars.ts'
import { createFigures } from './usage/figures.ts'
import { createLines } from './usage/lines.ts'
import { withHistograms, withoutPast } from './usage/merge.ts'
import { createInstruments, VIEWS } from './usage/metrics.ts'
import { readOtlpSettings } from './usage/otlp-settings.ts'
import { createRecorder, type Recorder } from './usage/record.ts'
import { createRequestLines } from './usage/request-lines.ts'
import { createFleet, type Fleet } from './workers/fleet.ts'
import { isWorker, openLink } from './workers/link.ts'

const VERSION = readVersion()
/** A change is seen after two equal looks, so within twice this. */
const WATCH_MS = 300
/** Open requests of an expired bearer are looked for this often. */
const EXPIRY_MS = 500
/** Secrets that have become too old are looked for this often. */
const ROTATION_EVERY_MS = 60_000
/** More workers are for those who ask for them: each takes 70 MB, and the primary counts for all of them. */
const MOST_CORES = 16
/** How long the workers have to end behind their drain. */
const END_MS = 5000
/** How long a worker may take to hear what another one found out. */
const HINT_MS = 1000
/** What a collector gets of a drain, at most. */
const LAST_EXPORT_MS = 1000
/** A signal this soon after the first is its echo: a group gets it, and npm in that group passes its own on. */
const ECHO_MS = 1000

const clock: Clock = { now: () => performance.now(), wall: () => Date.now() }
const timers: Timers = {
  set: (ms, run) => setTimeout(run, ms),
  clear: (handle) => clearTimeout(handle as NodeJS.Timeout | undefined),
}

// At once: a start that failed half-way has left connections and timers that would keep the process alive.
process.exit(await main(process.argv.slice(2)))

async function main(args: readonly string[]): Promise<number> {
  // Whoever read what is written may go away: that ends neither a gateway nor, with a stack, a command.
  const output = { isLost: false }
  process.stdout.on('error', () => {
    output.isLost = true
  })
  process.stderr.on('error', () => {})
  // What a worker is to do its primary has decided.
  if (isWorker(process.env)) return serve({ configPath: undefined })
  const io: Io = {
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    stdoutSecret: (text) => void process.stdout.write(text),
    env: process.env,
    cwd: process.cwd(),
    isTty: process.stdout.isTTY === true,
    get rows() {
      return process.stdout.rows
    },
  }
  return runCommand(args, io, {
    vendors: VENDORS,
    start: START,
    version: VERSION,
    serve,
    verifySecrets: async (snapshot) => {
      const { problems, warnings } = await verifySecrets(snapshot, surroundings(snapshot), clock.wall())
      const all = [...problems, ...(await verifyRedis(snapshot, surroundings(snapshot)))]
      return { problems: all.map((problem) => ({ file: snapshot.source, ...problem })), warnings }
    },
    randomBytes: (count) => randomBytes(count),
    now: () => clock.wall(),
    fetch,
    async wait(ms) {
      await wait(ms)
      // For what is shown again and again nobody is left.
      if (output.isLost) process.exit(0)
    },
  })
}

/**
 * Runs until a signal ends it. Gives the exit code: 0 after a drain, 1 when it cannot start.
 *
 * One process does everything; or a primary has the operators' port, the signals, the files and the ledgers, and its
 * workers answer agents. All three are made of the same parts: the primary has a gateway too, to which no request
 * comes, and a worker reads the configuration from what its primary sends.
 */
async function serve({ configPath }: { configPath: string | undefined }): Promise<number> {
  const started = Promise.withResolvers<void>()
  const told = Promise.withResolvers<string>()
  const link = openLink(process.env, {
    answer: async (question) => {
      await started.promise
      return answerPrimary(question)
    },
    onError: (error) => onError(error, ''),
    onEnd: () => lines.flush(),
  })
  let onHangup = () => {}
  process.on('SIGHUP', () => onHangup())
  // From the first moment: a signal that comes before we listen is carried out when we do. Those that reach a whole
  // group are the primary's.
  const stop = link === undefined ? firstSignal(['SIGTERM', 'SIGINT']) : told.promise
  if (link !== undefined) for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => {})
  /** Said once for all processes. */
  const news = link === undefined ? 'info' : 'debug'
  let fleet: Fleet | undefined
  const current: { gateway: Gateway | undefined } = { gateway: undefined }
  const scrubber = createScrubber({
    isBearerDigest: (hex) => current.gateway?.snapshot.bearers.has(hex) === true,
  })
  // From here on nothing leaves by the standard streams but through the scrubber, whoever writes it.
  const out = patchStream(process.stdout, scrubber)
  const err = patchStream(process.stderr, scrubber)
  // A worker has the same one.
  if (link === undefined)
    process.stdout.once(
      'error',
      () => void err.original('sluice: standard output is gone, and what the log says from now on is lost\n'),
    )
  const lines = createLines((text) => void out.original(text), setImmediate, {
    shared: () => link !== undefined || fleet !== undefined,
  })
  const log = pino(
    { base: link && { worker: link.id }, timestamp: pino.stdTimeFunctions.isoTime },
    createScrubbedWritable((line) => lines.write(line.toString()), scrubber),
  )
  const scrub = (text: string) => scrubber.text(text)
  // Made further down: before it there is no request.
  let recorder: Recorder | undefined
  const describe = (error: unknown) => describeError(error, scrubber)
  const onError = (error: unknown, id: string) => log.error({ id, error: describe(error) }, 'internal error')
  process.on('uncaughtException', (error) => {
    log.fatal({ error: describe(error) }, 'uncaught exception')
    lines.flush()
    err.flush()
    process.exit(1)
  })
  process.on('unhandledRejection', (reason) => log.error({ error: describe(reason) }, 'unhandled rejection'))

  const begun = link && readBegin(await link.ask({ kind: 'begin' }))
  const path = begun?.path ?? configPath
  const bearer = path === undefined ? process.env.SLUICE_BEARER || mintBearer(randomBytes) : undefined
  if (bearer !== undefined && hasSluicePrefix(bearer) && !checksumIsRight(bearer)) {
    return cannotStart([
      `SLUICE_BEARER: begins with ${BEARER_PREFIX} and is not one that "sluice bearer new" made; use one, or text of any other kind`,
    ])
  }
  const reader =
    path === undefined
      ? createEnvironmentReader({
          environment: process.env,
          vendors: VENDORS,
          start: START,
          bearer: bearer ?? '',
          fetch,
        })
      : begun === undefined
        ? createReader({ path, vendors: VENDORS })
        : createWorkerReader(begun, { vendors: VENDORS })
  const loaded = await reader.read()
  if (!loaded.ok) return cannotStart(loaded.problems.map(formatProblem))
  /** That of the start; the one in use is `gateway().snapshot`. */
  const { snapshot } = loaded
  log.level = snapshot.log.level

  const keyring = createKeyring({
    ...surroundings(snapshot),
    references: referencesOf(snapshot),
    clock,
    onWarning: (message) => log.warn(message),
    onLoad: (secret, outcome) => instruments.secretLoads.add(1, { secret, outcome }),
  })
  const keys = createKeys({ clock, reveal: (reference) => keyring.value(reference) })
  /** The configuration in use. */
  const present = () => current.gateway?.snapshot ?? snapshot
  const exporter = new PrometheusExporter({ preventServerStart: true })
  const provider = new MeterProvider({ readers: [exporter], views: VIEWS })
  let hints: Hints = NO_HINTS
  let heardHints: SharedHints | undefined
  const failover = () => present().failover
  const health = createHealth({
    clock,
    random: Math.random,
    graceMs: () => failover().graceMs,
    hints: {
      // What a caller called a model may be anything, and others read it.
      tell: (hint) => hints.tell(hint.model === undefined ? hint : { ...hint, model: scrub(hint.model) }),
      probed: (deployment) => hints.probed(deployment),
    },
    onChange: ({ to, ...change }) =>
      log[to === 'available' ? 'info' : 'warn'](
        { ...change, to },
        `deployment is ${to.replace('_', ' on ')}`,
      ),
  })
  const counts = { inflight: 0, streams: 0 }
  const startedMs = clock.wall()
  // Made further down: nobody looks before.
  let limits: Backing | undefined
  let quota: QuotaMeter | undefined
  let operators: Operators | undefined
  const instruments = createInstruments(provider.getMeter('sluice'), {
    wall: clock.wall,
    inflight: () => counts.inflight,
    streams: () => counts.streams,
    redisUp: () => limits?.outage?.up,
    redisFleet: () => limits?.outage?.fleet,
    redisRoundTrips: () => limits?.redis?.trips ?? 0,
    limits: () => limits?.store.totals() ?? NOTHING_IN_HAND,
    budgets: () => budgetsShown(limits?.store.spent() ?? [], present().agents),
    openHolds: () => quota?.openHolds() ?? 0,
    waiting: () => quota?.waiting() ?? 0,
    deployments: () => operators?.deployments() ?? [],
    secrets: () => secretAges(keyring, clock.wall()),
    rotations: () =>
      rotationsOf(present()).map(({ secret, rotateMs }) => ({ secret, rotateSeconds: rotateMs / 1000 })),
    keyUses: () => keys.usesOutsideHours(present().providers.values()),
  })

  const telemetry = readOtlpSettings(process.env, VERSION)
  const secrets = await keyring.reload()
  if (secrets.problems.length > 0)
    return cannotStart(secrets.problems.map(({ path, message }) => `${path}: ${message}`))
  teach([snapshot])
  warn([...snapshot.warnings, ...telemetry.warnings])
  const rotation = createRotationWatch({
    keyring,
    snapshot: present,
    clock,
    warn: (message) => warn([message]),
  })
  rotation.check()
  const calendar = createSweep(clock, ROTATION_EVERY_MS)
  calendar.add(rotation)

  const access = snapshot.redis && (await resolveRedis(snapshot.redis, keyring.value, surroundings(snapshot)))
  if (access !== undefined && access.servers === undefined)
    return cannotStart(access.problems.map(({ path, message }) => `${path}: ${message}`))
  const servers = access?.servers
  const revocations = createRevocations({
    clock,
    log,
    count: (source) => instruments.revocations.add(1, { source }),
    quiet: link !== undefined,
  })
  revocations.use(snapshot)
  const expiry = createSweep(clock, EXPIRY_MS)
  expiry.add(revocations)
  // Budgets run by the calendar; a limiter's clock must not jump with that of the machine.
  const epochUs = Math.floor((clock.wall() - clock.now()) * 1000)
  const ledgers = createMemoryAuthority({ clock, epochUs, maxLedgers: servers && SHADOWS })
  const figures = createFigures()
  const exemplars = createExemplars({ clock })
  const places = createPlaces(clock)
  const randomHex = (count: number) => randomBytes(count).toString('hex')
  const replica = randomHex(6)
  const otlp =
    telemetry.tracesUrl === undefined && telemetry.metricsUrl === undefined
      ? undefined
      : (await import('./usage/otlp.ts')).createOtlp(telemetry, {
          version: VERSION,
          instance: replica,
          isFirst: link === undefined,
          randomHex,
          scrub,
          describe,
          log,
          clock,
          timers,
        })
  const workers = snapshot.listen.workers === 'auto' ? coresOfThis() : snapshot.listen.workers
  if (link === undefined && workers > 1) {
    fleet = createFleet({
      count: workers,
      clock,
      timers,
      log,
      answer: answerWorker,
      onGone(id) {
        ledgers.forget(replicaOf(id))
        places.forget(id)
        figures.retire(id)
      },
      onChange(live) {
        if (phase.now === 'ready' || phase.now === 'starting')
          phase.now = live > 0 && isListening ? 'ready' : 'starting'
      },
      onError: (error) => onError(error, ''),
    })
  }
  limits = createBacking({
    // In Redis the replicas are the workers.
    servers: fleet === undefined ? servers : undefined,
    settings: snapshot.redis,
    replica,
    here:
      link === undefined || servers !== undefined
        ? ledgers
        : createRemoteAuthority({
            ask: (visits) => link.ask({ kind: 'visit', visits }),
            timers: systemTimers,
          }),
    shadow: ledgers,
    leases: link !== undefined,
    clock,
    timers: systemTimers,
    log,
    random: Math.random,
    startedMs,
  })
  const { store } = limits
  quota = createMeter({ store, clock, timers: systemTimers, ids: createIds('h', randomBytes) })
  const shares =
    servers && createRedisClient(servers, { timers: systemTimers, log, random: Math.random, scripts: [] })
  const shared =
    shares &&
    createSharedRevocations({
      redis: shares,
      revocations,
      clock,
      timers,
      random: Math.random,
      log,
    })
  await Promise.all([limits.outage?.start(), shared?.start()])
  let checks: Checks | undefined
  // The primary has no traffic of its own to learn from; it passes on what its workers say.
  const carrier = shares ? createRedisCarrier(shares, replica) : link && createLinkCarrier(link.ask)
  if (carrier !== undefined && fleet === undefined) {
    hints = heardHints = createSharedHints({
      carrier,
      clock,
      timers,
      replica,
      learn: (hint) => {
        if (hint.kind === 'checked') checks?.learn(hint)
        else if (gateway().snapshot.deployments.has(hint.deployment)) health.learn(hint)
      },
    })
    shares?.subscribe(HINTS_CHANNEL, { message: heardHints.hear })
  }
  const transport = createTransport()
  const phase: { now: Phase['now'] } = { now: 'starting' }
  let isListening = false
  const nextId = createIds('req_', randomBytes)
  const loop = watchLoop()
  const overload = createOverload({ loop, clock, random: Math.random, log })
  const pulse = createSweep(clock, OVERLOAD_EVERY_MS)
  pulse.add(overload)
  recorder = createRecorder({
    log: createRequestLines({ log, write: lines.write, scrub, wall: clock.wall, worker: link?.id }),
    instruments,
    exemplars,
    clock,
    traces: otlp?.traces,
    describe,
  })
  const stores: Stores = {
    clock,
    overload,
    counts,
    health,
    timers,
    random: Math.random,
    keys,
    hints,
    pace: createPace({ clock }),
    hedges: createHedges(),
    retries: createRetryBudget({
      clock,
      share: () => failover().retryBudget,
      replicas: () => limits?.replicas ?? 1,
    }),
    kinds: {
      http: transport.call,
      simulated: createSimulated({ clock, timers }),
      reply: createCannedReply({ clock }),
    },
    quota,
    revocations,
    usage: recorder,
    scrub,
    userAgent: `sluice/${VERSION}`,
  }
  current.gateway = buildGateway(snapshot, stores)
  const gateway = () => current.gateway as Gateway
  if (fleet === undefined) checks = createChecks({ ...stores, hints, get: transport.get, formats, log })

  const sweep = createSweep(clock)
  const onFault = stores.usage.refused
  let trusted = toBlockList(snapshot.listen.trustedProxies)
  const active = createBag<Active>()
  const startedSeconds = Math.floor(clock.wall() / 1000)
  // hono, and what of Node it makes use of, takes 40 ms, and no model endpoint needs it.
  const cannotAnswer = (error: unknown, _req: IncomingMessage, res: ServerResponse): void => {
    onError(error, '')
    res.destroy()
  }
  const app = createLater<Parameters<FrontDoorDeps['other']>>(async () => {
    const { createApp } = await import('./http/app.ts')
    return createApp({
      phase,
      scrub,
      onFault,
      onError,
      models: (presented) => gateway().models(presented),
      hasModel: (presented, name) => gateway().hasModel(presented, name),
      startedSeconds,
    })
  }, cannotAnswer)
  const front = createFrontDoor({
    active,
    clock,
    sweep,
    counts,
    phase,
    scrub,
    nextId,
    onFault,
    budget: { heldBytes: 0 },
    maxConnections: snapshot.listen.maxConnections,
    trusted: () => trusted,
    handle: (arrival, reply) => gateway().handle(arrival, reply),
    other: app.call,
  })
  // Those of a worker its primary takes in.
  if (link === undefined) front.on('connection', loop.connected)

  const reload = createReload({
    reader,
    keyring,
    snapshot: () => gateway().snapshot,
    use(next) {
      current.gateway = buildGateway(next, stores)
      revocations.use(next)
      recorder?.forget()
      trusted = toBlockList(next.listen.trustedProxies)
      checks?.use(next)
      front.maxConnections = next.listen.maxConnections
      log.level = next.log.level
      rotation.check()
    },
    fleet,
    teach: (snapshots) => teach([snapshot, ...snapshots]),
    warn,
    news: (fields, message) => log[news](fields, message),
    log,
    onError: (error) => onError(error, ''),
    timers: systemTimers,
  })

  // --- the primary and its workers -----------------------------------------------------------------------------

  /** What a configured 0 has turned into: a worker that replaces the last one listens where all have before. */
  let workersPort = snapshot.listen.port

  function answerWorker(question: unknown, id: number): unknown {
    if (!isObject(question) || fleet === undefined) return undefined
    if (question.kind === 'visit')
      return answerVisits(ledgers, question.visits, {
        replica: replicaOf(id),
        fleet: Math.max(fleet.live, 1),
      })
    if (question.kind === 'figures') return void operators?.note(id, question.look)
    if (question.kind !== 'begin') return answerHint(question, id, { places, pass: passHint })
    const sources = reader.sourcesOf(gateway().snapshot)
    return { path: configPath, sources, workers, host: snapshot.listen.host, port: workersPort }
  }

  function passHint(text: string): void {
    void fleet?.ask({ kind: 'hint', text }, HINT_MS).catch(() => {})
  }

  async function answerPrimary(question: unknown): Promise<unknown> {
    if (!isObject(question)) return undefined
    if (question.kind === 'reload') {
      if (begun !== undefined && isSources(question.sources)) begun.sources = question.sources
      return reload({ secretsOnly: question.secretsOnly === true })
    }
    if (question.kind === 'hint') return heardHints?.hear(String(question.text))
    if (question.kind === 'explain') return operators?.explainHere(question)
    if (question.kind === 'look') return operators?.lookHere({ metrics: question.metrics === true })
    if (question.kind === 'limits')
      return operators?.limitsHere(typeof question.agent === 'string' ? question.agent : undefined)
    if (question.kind === 'drain') told.resolve('SIGTERM')
    return undefined
  }

  operators = createOperators({
    gateway,
    fleet,
    workers,
    figures,
    exemplars,
    backing: limits,
    quota,
    health,
    counts,
    overload,
    phase,
    version: VERSION,
    startedMs: clock.wall(),
    secrets: () => secretsShown(keyring, { nowMs: clock.wall(), rotations: rotationsOf(gateway().snapshot) }),
    agentLabel: instruments.agentLabel,
    async collect() {
      const { resourceMetrics } = await exporter.collect()
      return withHistograms(withoutPast(resourceMetrics, instruments.isOfNow), instruments.histograms())
    },
    scrub,
  })
  if (link === undefined) otlp?.sendMetrics(operators.collect)
  const adminDeps: AdminDeps = {
    phase,
    token: () => {
      const { token } = gateway().snapshot.admin
      return token === undefined ? undefined : keyring.value(token)
    },
    metrics: operators.metrics,
    readiness: operators.readiness,
    status: operators.status,
    explain: operators.explain,
    reload,
    fail: (error) => {
      const id = nextId()
      if (!(error instanceof Error && error.name === 'GatewayError')) onError(error, id)
      return toErrorResponse(error, id, scrub)
    },
  }
  const admin = createLater(
    async () => (await import('./admin/app.ts')).createAdminListener(adminDeps),
    cannotAnswer,
  )
  const back = createAdminServer(admin.call)

  const watch = watchFiles({
    paths: () => (link === undefined ? watchedPaths(keyring, gateway().snapshot) : []),
    everyMs: WATCH_MS,
    timers: { setInterval, clearInterval },
    onChange: async () => void (await reload({ secretsOnly: false })),
    onError: (error) => onError(error, ''),
  })
  // Whoever edits a file once we say that we listen must be heard: changes are told against this first reading.
  await watch.ready

  try {
    if (fleet === undefined) await listen(front, snapshot.listen)
    else if (workersPort === 0) workersPort = await freePort(snapshot.listen.host)
    const serving = await fleet?.start()
    if (serving !== undefined && 'reasons' in serving) return await cannotStart(serving.reasons)
    if (link === undefined) await listen(back, snapshot.admin)
    const { host } = snapshot.listen
    const [port, adminPort] = [serving?.port ?? portOf(front), portOf(back)]
    isListening = true
    phase.now = 'ready'
    started.resolve()
    if (link === undefined) {
      // Whoever starts a gateway waits for this line (design §10), so it is there at every level that has lines at all.
      const always = log.level === 'silent' ? log : log.child({}, { level: 'info' })
      always.info(
        { host, port, adminHost: snapshot.admin.host, adminPort, ...operators.workers(), version: VERSION },
        'listening',
      )
    }
    lines.flush()
    await link?.ask({ serving: port })
    if (bearer !== undefined) out.original(toBanner(host, port, bearer))
  } catch (error) {
    watch.stop()
    front.close()
    return cannotStart([scrub(error instanceof Error ? error.message : String(error))])
  }

  checks?.use(gateway().snapshot)
  if (link === undefined) onHangup = () => void reload({ secretsOnly: false })
  const signal = await stop

  // --- drain ---------------------------------------------------------------------------------------------------
  const { drainMs, drainNoticeMs } = gateway().snapshot.listen
  phase.now = 'draining'
  log[news]({ signal, inflight: fleet === undefined ? counts.inflight : undefined }, 'draining')
  watch.stop()
  if (fleet === undefined) await wait(drainNoticeMs)
  else await fleet.end({ kind: 'drain' }, drainNoticeMs + drainMs + LAST_WORDS_MS + END_MS)
  phase.now = 'closing'
  await drain({ server: front, active, counts, clock, wait, log }, drainMs)
  back.close()
  back.closeAllConnections()
  for (const one of [sweep, expiry, pulse, calendar]) one.stop()
  checks?.close()
  // A worker's last words, so that no sum over all workers falls behind what happened.
  await link?.ask({ kind: 'figures', look: await operators.lookHere({ metrics: true }) }).catch(() => {})
  await Promise.all([store.close(), shared?.close(), otlp?.close(LAST_EXPORT_MS)])
  await transport.close()
  await provider.shutdown()
  log[news]('stopped')
  lines.flush()
  out.flush()
  err.flush()
  return 0

  /** Tells the scrubber every value that text may hold: of the keyring, of these configurations, and of this run. */
  function teach(snapshots: readonly Snapshot[]): void {
    const literals = snapshots.flatMap((one) => literalSecretsOf(one))
    const own = bearer === undefined ? [] : [bearer]
    const kept = keyring.values()
    const parts = kept.flatMap(secretPartsOf)
    scrubber.setSecrets([...kept, ...parts, ...literals, ...telemetry.secrets, ...own])
    recorder?.forget()
  }

  function warn(warnings: readonly string[]): void {
    if (link === undefined) for (const warning of warnings) log.warn(warning)
  }

  async function cannotStart(reasons: readonly string[]): Promise<number> {
    lines.flush()
    if (link !== undefined) {
      await link.ask({ cannotStart: reasons.map(scrubber.text) }).catch(() => {})
      return 1
    }
    err.original(
      `${['sluice cannot start:', ...reasons.map((reason) => `  ${reason}`)].map(scrubber.text).join('\n')}\n`,
    )
    return 1
  }
}

/** What references to secrets are resolved in. */
function surroundings({ secrets }: Snapshot): Surroundings {
  return { env: process.env, uid: process.getuid?.() ?? 0, groupReadable: secrets.groupReadable }
}

/** How many workers `auto` is. Node looks at the affinity and at the quota of the cgroup (libuv since 1.49). */
function coresOfThis(): number {
  return Math.min(availableParallelism(), MOST_CORES)
}

/** Name of a worker in the ledgers. */
function replicaOf(id: number): string {
  return `w${id}`
}

/** Waits for one of the signals; a second one, meant as such, ends the process at once. */
function firstSignal(signals: readonly NodeJS.Signals[]): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let firstMs: number | undefined
    for (const signal of signals) {
      process.on(signal, () => {
        if (firstMs !== undefined && clock.now() - firstMs > ECHO_MS) process.exit(1)
        firstMs ??= clock.now()
        resolve(signal)
      })
    }
  })
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  const parsed: unknown = JSON.parse(text)
  const version =
    typeof parsed === 'object' && parsed !== null && 'version' in parsed ? parsed.version : undefined
  return typeof version === 'string' ? version : '0.0.0'
}
