// The worker's end: whether this process is a worker, and its channel to the primary. A worker whose primary has gone
// ends (node:cluster sees to that).

import cluster from 'node:cluster'
import { createPost, type Post } from './post.ts'

/** Set for the processes that fleet.ts starts, so that one under somebody else's node:cluster is none of them. */
export const WORKER_VARIABLE = 'SLUICE_WORKER'

export interface Link extends Pick<Post, 'ask'> {
  /** Number of the worker, unique in the life of its primary. */
  readonly id: number
}

type Environment = Readonly<Record<string, string | undefined>>

export function isWorker(env: Environment): boolean {
  return cluster.isWorker && env[WORKER_VARIABLE] !== undefined
}

/** Opens the channel; undefined in a process that is no worker. */
export function openLink(
  env: Environment,
  deps: {
    /** Answers what the primary asks. */
    readonly answer: (question: unknown) => unknown
    readonly onError: (error: unknown) => void
    /** The primary has gone: the last moment of this process. */
    readonly onEnd: () => void
  },
): Link | undefined {
  const { worker } = cluster
  if (worker === undefined || !isWorker(env)) return undefined
  const post = createPost({ ...deps, send: (message) => void worker.send(message) })
  worker.on('message', (message: unknown) => post.hear(message))
  worker.on('disconnect', () => {
    post.close()
    deps.onEnd()
  })
  return { id: worker.id, ask: post.ask }
}
