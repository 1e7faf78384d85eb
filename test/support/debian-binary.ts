// Finds a program of Debian's for the tests, or brings it: apt as root, else unpacked packages in the project's cache.
// There is no way to go on without: a suite that skips Redis proves nothing about limits.

import { spawnSync } from 'node:child_process'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'

/** How to run a program. */
export interface Binary {
  readonly path: string
  /** Variables to add to its environment. */
  readonly env: Readonly<Record<string, string>>
}

/** A program of Debian's, and how to know it. */
export interface Wanted {
  readonly program: string
  readonly package: string
  /** Unpacked beside each other; the first one is that whose libraries are needed too. */
  readonly unpacked: readonly string[]
  /** What it says of itself, asked for its version: on standard output or, as nginx does, on standard error. */
  readonly ask: string
  readonly says: string
}

export const REDIS: Wanted = {
  program: 'redis-server',
  package: 'redis-server',
  // On Debian redis-server is a link into redis-tools, which brings the libraries.
  unpacked: ['redis-tools', 'redis-server'],
  ask: '--version',
  says: 'Redis server',
}

export const HAPROXY: Wanted = {
  program: 'haproxy',
  package: 'haproxy',
  unpacked: ['haproxy'],
  ask: '-v',
  says: 'HAProxy',
}

export const NGINX: Wanted = {
  program: 'nginx',
  package: 'nginx',
  unpacked: ['nginx'],
  ask: '-v',
  says: 'nginx version',
}

export const SYSTEMD_ANALYZE: Wanted = {
  program: 'systemd-analyze',
  package: 'systemd',
  unpacked: ['systemd'],
  ask: '--version',
  says: 'systemd',
}

/** promtool lies beside it. */
export const PROMETHEUS: Wanted = {
  program: 'prometheus',
  package: 'prometheus',
  unpacked: ['prometheus'],
  ask: '--version',
  says: 'prometheus, version',
}

const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache/sluice')
const POLICY = '/usr/sbin/policy-rc.d'

/** The program that is there, or undefined. */
export function findBinary(wanted: Wanted, cache = join(CACHE, wanted.program)): Binary | undefined {
  // A daemon's folder is not on everybody's path.
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin']) {
    const found = folder === '' ? undefined : working({ path: join(folder, wanted.program), env: {} }, wanted)
    if (found) return found
  }
  const env = libraries(cache)
  return ['usr/bin', 'usr/sbin']
    .map((folder) => working({ path: join(cache, folder, wanted.program), env }, wanted))
    .find((found) => found !== undefined)
}

/** The program that is there, else a freshly installed one; throws with what to do when neither works. */
export function ensureBinary(
  wanted: Wanted,
  say: (line: string) => void,
  cache = join(CACHE, wanted.program),
): Binary {
  const { program } = wanted
  const present = findBinary(wanted, cache)
  if (present) return present
  const tried: string[] = []
  for (const [name, bring] of [
    ['apt-get install', () => installAsRoot(wanted)],
    ['apt-get download', () => unpackInto(wanted, cache)],
  ] as const) {
    say(`${program} is missing; trying ${name} …`)
    const trouble = bring()
    const found = trouble === undefined ? findBinary(wanted, cache) : undefined
    if (found) {
      say(`${program}: ${found.path}`)
      return found
    }
    tried.push(`  ${name}: ${trouble ?? `went well, but there is still no ${program} that runs`}`)
  }
  throw new Error(
    [
      `The tests need ${program} and could not find or install it.`,
      ...tried,
      'Do one of these and run the tests again:',
      `  Debian, Ubuntu:  sudo apt-get install ${wanted.package}`,
      `  macOS:           brew install ${wanted.package.replace('-server', '')}`,
      `  anything else:   put ${program} on the PATH`,
    ].join('\n'),
  )
}

/** apt as root, with services kept from starting. Returns what went wrong. */
function installAsRoot(wanted: Wanted): string | undefined {
  if (process.getuid?.() !== 0) return 'not root'
  // Debian's way to install a daemon without starting it; a policy that is already there is left alone.
  const policy = !existsSync(POLICY)
  if (policy) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    return (
      run('apt-get', ['update', ...POLITE], 180_000) ??
      run(
        'apt-get',
        [
          'install',
          '-y',
          '--no-install-recommends',
          '-o',
          'DPkg::Lock::Timeout=120',
          ...POLITE,
          wanted.package,
        ],
        300_000,
      )
    )
  } finally {
    if (policy) rmSync(POLICY, { force: true })
  }
}

/** Needs no root: its own package lists, the packages unpacked beside their libraries. Returns what went wrong. */
export function unpackInto(wanted: Wanted, cache: string): string | undefined {
  mkdirSync(dirname(cache), { recursive: true })
  const work = mkdtempSync(join(dirname(cache), `${wanted.program}-new-`))
  try {
    const own = ['-o', `Dir::State::Lists=${join(work, 'lists')}`, '-o', `Dir::Cache=${join(work, 'apt')}`]
    mkdirSync(join(work, 'lists/partial'), { recursive: true })
    mkdirSync(join(work, 'apt/archives/partial'), { recursive: true })
    mkdirSync(join(work, 'root'))
    const updated = run('apt-get', ['update', ...own, ...POLITE], 180_000)
    if (updated !== undefined) return updated
    // The C library is never taken: it must be the one of this system.
    const [main = wanted.package] = wanted.unpacked
    const depends = spawnSync('apt-cache', ['depends', ...own, '--important', main], {
      encoding: 'utf8',
    })
    const needed = [...(depends.stdout ?? '').matchAll(/^ {2}Depends: (lib[a-z0-9.+-]+)$/gm)]
      .map((match) => match[1] ?? '')
      .filter((name) => name !== 'libc6')
    const fetched = run(
      'apt-get',
      ['download', ...own, ...POLITE, ...wanted.unpacked, ...needed],
      180_000,
      work,
    )
    if (fetched !== undefined) return fetched
    for (const file of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
      const unpacked = run('dpkg-deb', ['-x', join(work, file), join(work, 'root')], 60_000)
      if (unpacked !== undefined) return unpacked
    }
    rmSync(cache, { recursive: true, force: true })
    renameSync(join(work, 'root'), cache)
    return undefined
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const POLITE = [
  '-q',
  '-o',
  'Acquire::Retries=2',
  '-o',
  'Acquire::http::Timeout=30',
  '-o',
  'APT::Sandbox::User=root',
]

function run(command: string, args: readonly string[], timeout: number, cwd?: string): string | undefined {
  const done = spawnSync(command, args, {
    cwd,
    timeout,
    killSignal: 'SIGKILL',
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
  })
  if (done.status === 0) return undefined
  if (done.error) return `${command} ${args[0]}: ${done.error.message}`
  return `${command} ${args[0]} ended with ${done.status ?? done.signal}: ${done.stderr.trim().slice(-600)}`
}

/** Where unpacked packages have their libraries, whatever the architecture is called. */
function libraries(cache: string): Record<string, string> {
  const folders = ['usr/lib', 'lib'].flatMap((name) => {
    const base = join(cache, name)
    if (!existsSync(base)) return []
    const inside = readdirSync(base).filter(
      (entry) => entry.endsWith('-linux-gnu') || entry.endsWith('-gnueabihf'),
    )
    return inside.map((entry) => join(base, entry))
  })
  return folders.length === 0 ? {} : { LD_LIBRARY_PATH: folders.join(':') }
}

/** The binary if it is there and really starts. */
function working(binary: Binary, { ask, says }: Wanted): Binary | undefined {
  try {
    accessSync(binary.path, constants.X_OK)
  } catch {
    return undefined
  }
  const asked = spawnSync(binary.path, [ask], {
    timeout: 10_000,
    encoding: 'utf8',
    env: { ...process.env, ...binary.env },
  })
  return asked.status === 0 && (asked.stdout + asked.stderr).includes(says) ? binary : undefined
}
