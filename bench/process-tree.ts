// What a process and all its children have taken: processor time and memory, as the kernel counts them.

import { readdirSync, readFileSync } from 'node:fs'

/** A process with everything it has started that is still there. */
export function treeOf(pid: number): number[] {
  const found = [pid]
  for (let i = 0; i < found.length; i += 1) {
    for (const task of list(`/proc/${found[i]}/task`)) {
      const children = text(`/proc/${found[i]}/task/${task}/children`).split(' ').filter(Boolean)
      found.push(...children.map(Number))
    }
  }
  return found
}

/** Processor time of all threads so far, in ns (`schedstat`, so that a run of a second can be told from another). */
export function cpuNs(pids: readonly number[]): number {
  let ns = 0
  for (const pid of pids) {
    for (const task of list(`/proc/${pid}/task`)) {
      ns += Number(text(`/proc/${pid}/task/${task}/schedstat`).split(' ')[0] ?? 0)
    }
  }
  return ns
}

/** Memory that is resident, in bytes; pages that processes share count for each of them. */
export function residentBytes(pids: readonly number[]): number {
  let kb = 0
  for (const pid of pids) kb += Number(/^VmRSS:\s+(\d+)/m.exec(text(`/proc/${pid}/status`))?.[1] ?? 0)
  return kb * 1024
}

function list(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
