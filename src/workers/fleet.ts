// The primary's end: starts the workers, asks them, replaces those that end, ends them all. The port for agents is held
// by this process and all workers accept from it, so what waits there is not lost with one. The files at the top of
// src/ say what is asked and answered.

import cluster, { type Worker } from 'node:cluster'
import { WORKER_VARIABLE } from './link.ts'
import { createPost, type Post } from './post.ts'

export interface Fleet {
  /** Starts them. Resolves when all serve, or with the reasons of the first that cannot. */
  start(): Promise<{ readonly port: number } | { readonly reasons: readonly string[] }>
  /** Workers that serve. */
  readonly live: number
  /**
   * Asks each worker, those that are still starting too; undefined of one that does not answer in time. Nothing of one
   * that has gone meanwhile.
   */
  ask(
    question: unknown,
    withinMs: number,
  ): Promise<readonly { readonly id: number; readonly answer: unknown }[]>
  /** Puts the question that ends a worker to each. Resolves when all have ended; after that time they are killed. */
  end(question: unknown, withinMs: number): Promise<void>
}

export interface FleetOptions {
  readonly count: number
  readonly clock: { now(): number }
  readonly timers: { set(ms: number, run: () => void): unknown; clear(handle: unknown): void }
  /** Answers what a worker asks. */
  readonly answer: (question: unknown, from: number) => unknown
  /** All that a worker had to say has been heard, and it is gone. */
  readonly onGone: (id: number) => void
  /** Called when the number of workers that serve changes. */
  readonly onChange: (live: number) => void
  readonly onError: (error: unknown) => void
  readonly log: {
    info(fields: Readonly<Record<string, unknown>>, message: string): void
    warn(fields: Readonly<Record<string, unknown>>, message: string): void
  }
}

/** What a worker says of itself, in a question to which there is no answer. */
export type Report = { readonly serving: number } | { readonly cannotStart: readonly string[] }

/** One that ends sooner than this is not replaced at once: after a second try in 100 ms, then in twice that, … */
const EARLY_MS = 10_000
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 10_000

interface Member {
  readonly worker: Worker
  readonly post: Post
  readonly startedMs: number
  serves: boolean
}

export function createFleet(options: FleetOptions): Fleet {
  const { count, clock, timers, log } = options
  // Not in turn through this process: a connection that is being handed over when its worker dies or closes is then
  // neither answered nor closed, and every connection would cost two processes. Idle workers accept first.
  cluster.schedulingPolicy = cluster.SCHED_NONE
  const members = new Map<number, Member>()
  /** Workers that ended soon after their start, one after the other. */
  let early = 0
  let ending = false
  let whenStarted:
    | ((how: { readonly port: number } | { readonly reasons: readonly string[] }) => void)
    | undefined
  let whenEmpty: (() => void) | undefined

  const live = (): number => [...members.values()].filter(({ serves }) => serves).length

  function begin(): void {
    const worker = cluster.fork({ [WORKER_VARIABLE]: '1' })
    const { id } = worker
    const post = createPost({
      send: (message) => {
        // Who has gone is noticed below.
        if (worker.isConnected()) worker.send(message, () => {})
      },
      answer: (question) => hear(id, question),
      onError: options.onError,
    })
    members.set(id, { worker, post, startedMs: clock.now(), serves: false })
    worker.on('message', (message: unknown) => post.hear(message))
    worker.on('error', (error: unknown) => {
      options.onError(error)
      // It could not even be started, and no end will be told.
      if (worker.process.pid === undefined) gone(id)
    })
    // The channel may hold words of one that has ended; after both nothing more can come.
    let left = 2
    const over = (): void => {
      left -= 1
      if (left === 0) gone(id)
    }
    worker.once('disconnect', over)
    worker.once('exit', over)
  }

  function hear(id: number, question: unknown): unknown {
    if (!isReport(question)) return options.answer(question, id)
    const member = members.get(id)
    if (member === undefined) return undefined
    if ('cannotStart' in question) {
      if (whenStarted === undefined)
        log.warn({ worker: id, reasons: question.cannotStart }, 'a worker cannot start')
      else whenStarted({ reasons: question.cannotStart })
      return undefined
    }
    member.serves = true
    options.onChange(live())
    if (whenStarted === undefined) log.info({ worker: id }, 'a new worker serves')
    else if (live() === count) whenStarted({ port: question.serving })
    return undefined
  }

  function gone(id: number): void {
    const member = members.get(id)
    if (member === undefined) return
    members.delete(id)
    member.post.close()
    options.onGone(id)
    if (member.serves) options.onChange(live())
    if (members.size === 0) whenEmpty?.()
    if (ending) return
    const { exitCode, signalCode } = member.worker.process
    // One that cannot even be started the first time has not said why.
    whenStarted?.({ reasons: [`a worker ended at its start (${signalCode ?? exitCode})`] })
    early = clock.now() - member.startedMs < EARLY_MS ? early + 1 : 0
    const pauseMs = early === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** (early - 1), LONGEST_PAUSE_MS)
    log.warn({ worker: id, exitCode, signal: signalCode, pauseMs }, 'a worker has ended and is replaced')
    timers.set(pauseMs, () => {
      if (!ending) begin()
    })
  }

  async function askOne(id: number, question: unknown, withinMs: number) {
    const { promise, resolve } = Promise.withResolvers<unknown>()
    const timer = timers.set(withinMs, () => resolve(undefined))
    members
      .get(id)
      ?.post.ask(question)
      .then(resolve, () => resolve(undefined))
    const answer = await promise
    timers.clear(timer)
    return { id, answer }
  }

  return {
    async start() {
      const started = await new Promise<{ readonly port: number } | { readonly reasons: readonly string[] }>(
        (resolve) => {
          whenStarted = resolve
          for (let i = 0; i < count; i += 1) begin()
        },
      )
      whenStarted = undefined
      return started
    },

    get live() {
      return live()
    },

    async ask(question, withinMs) {
      const answers = await Promise.all([...members.keys()].map((id) => askOne(id, question, withinMs)))
      return answers.filter(({ id }) => members.has(id))
    },

    async end(question, withinMs) {
      ending = true
      if (members.size === 0) return
      const empty = new Promise<void>((resolve) => {
        whenEmpty = resolve
      })
      for (const { post } of members.values()) post.ask(question).catch(() => {})
      const timer = timers.set(withinMs, () => {
        log.warn({ workers: members.size }, 'workers do not end and are killed')
        for (const { worker } of members.values()) worker.process.kill('SIGKILL')
      })
      await empty
      timers.clear(timer)
    },
  }
}

function isReport(question: unknown): question is Report {
  return (
    typeof question === 'object' && question !== null && ('serving' in question || 'cannotStart' in question)
  )
}
