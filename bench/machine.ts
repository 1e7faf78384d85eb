// The machine of a bench: what it is, which core is whose, and how busy a core was. Linux only.

import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'

/** Mock and load have the first core, the target the second; on a machine with one nothing is pinned, and said so. */
export const LOAD_CORE = 0
export const TARGET_CORE = 1
export const IS_PINNED = cpus().length > 1

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGb: number
  readonly system: string
  readonly node: string
  readonly pinned: boolean
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${osName()}, Linux ${release().split('-')[0]}`,
    node: process.version,
    pinned: IS_PINNED,
  }
}

/** The command that runs another on these cores alone. */
export function pinned(cores: readonly number[], command: string, args: readonly string[]) {
  if (!IS_PINNED) return { command, args }
  return { command: 'taskset', args: ['-c', cores.join(','), command, ...args] }
}

/**
 * Asks the scheduler to put this session before others of the machine: a neighbour's search moves figures by a third
 * otherwise. Needs root; without it nothing happens.
 */
export function putFirst(): void {
  try {
    writeFileSync('/proc/self/autogroup', '-15')
  } catch {
    // An ordinary user's bench has the neighbours it has.
  }
}

/** Ticks of a core: all, and those in which it had nothing to do. */
export function coreTicks(core: number): { readonly all: number; readonly idle: number } {
  const line = new RegExp(`^cpu${core} (.*)$`, 'm').exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? ''
  // user nice system idle iowait irq softirq steal; guests are in user already.
  const ticks = line.split(' ').slice(0, 8).map(Number)
  return { all: ticks.reduce((a, b) => a + b, 0), idle: (ticks[3] ?? 0) + (ticks[4] ?? 0) }
}

function osName(): string {
  try {
    return /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux'
  } catch {
    return 'Linux'
  }
}
