// The house rules of src/: who may import whom, who may touch the process, who may name a vendor. Reads the sources
// as text; made-up sources first show that each rule can be broken.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

const SRC = resolve(import.meta.dirname, '../../src')
/** What every room may stand on. */
const GROUND = ['bytes', 'config', 'formats']
const COMMON = ['errors.ts', 'types.ts']
/** What joins rooms, for main.ts alone. */
const JOINTS = ['gateway.ts', 'operators.ts', 'reload.ts']
const TOP = [...COMMON, ...JOINTS, 'main.ts']
const VENDOR = /anthropic|gemini|azure|bedrock|vertex/i

/** Sources by path below src/, with forward slashes. */
type Sources = Readonly<Record<string, string>>

/** Every breach of a rule, as `path: what`. */
function breaches(sources: Sources): string[] {
  return Object.entries(sources).flatMap(([path, source]) => {
    const { code, text } = strip(source)
    return [
      ...strayImports(path, text),
      ...(path !== 'main.ts' ? processUses(code, text) : []),
      ...(mayNameVendors(path) ? [] : vendorNames(text)),
    ].map((what) => `${path}: ${what}`)
  })
}

function strayImports(path: string, text: string): string[] {
  const room = roomOf(path)
  if (room === undefined && !TOP.includes(path)) return ['a file at the top that no rule knows']
  const strays: string[] = []
  if (/\bimport\s*\(\s*(?!['"])/.test(text)) strays.push('imports something that is not written out')
  for (const specifier of specifiers(text)) {
    if (!specifier.startsWith('.')) continue
    const target = posix.join(posix.dirname(path), specifier)
    if (!isAllowed(path, room, target)) strays.push(`imports ${target}`)
  }
  return strays
}

function isAllowed(path: string, room: string | undefined, target: string): boolean {
  if (path === 'main.ts') return !target.startsWith('..')
  if (target.startsWith('..') || target === 'main.ts' || JOINTS.includes(target)) return false
  if (JOINTS.includes(path)) return true
  if (path === 'types.ts') return false
  if (COMMON.includes(path)) return COMMON.includes(target)
  const targetRoom = roomOf(target)
  return targetRoom === undefined
    ? COMMON.includes(target)
    : targetRoom === room || GROUND.includes(targetRoom)
}

/** The module names of static and dynamic imports, re-exports and `require`. */
function specifiers(text: string): string[] {
  const forms = [
    /\bfrom\s*(['"])(.*?)\1/g,
    /\bimport\s*(['"])(.*?)\1/g,
    /\b(?:import|require|createRequire\([^)]*\))\s*\(\s*(['"])(.*?)\1/g,
  ]
  return forms.flatMap((form) => [...text.matchAll(form)].map((match) => match[2] ?? ''))
}

/** The global `process` as an identifier; a property or a key of that name is something else. */
function processUses(code: string, text: string): string[] {
  const found: string[] = []
  const isGlobal = /\bglobalThis\s*\??\.\s*process\b|(?<![.\w$])process\b(?!\s*\??:)/.test(code)
  // `process:` is a key, but not behind `?` or `case`.
  const isValue = /(?:\?|\bcase)\s*process\s*:/.test(code)
  if (isGlobal || isValue) found.push('touches process')
  if (specifiers(text).some((name) => name === 'process' || name === 'node:process'))
    found.push('imports node:process')
  return found
}

function vendorNames(text: string): string[] {
  const name = VENDOR.exec(text)?.[0]
  return name === undefined ? [] : [`names a vendor: ${name}`]
}

function mayNameVendors(path: string): boolean {
  return path.startsWith('formats/') || /^upstream\/(?:vendors|prices)\.ts$/.test(path)
}

function roomOf(path: string): string | undefined {
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : undefined
}

/** A source without comments (`text`), and without comments, strings and regular expressions (`code`). */
function strip(source: string): { code: string; text: string } {
  let code = ''
  let text = ''
  let at = 0
  /** Depth of braces at each open `${`, so that the code inside a template is seen as code. */
  const templates: number[] = []
  let depth = 0
  const take = (length: number, into: 'both' | 'text' | 'none'): void => {
    const piece = source.slice(at, at + length)
    if (into === 'both') code += piece
    if (into !== 'none') text += piece
    else text += ' '
    if (into !== 'both') code += ' '
    at += length
  }
  const matched = (pattern: RegExp): number => {
    pattern.lastIndex = at
    return pattern.exec(source)?.[0].length ?? 0
  }
  /** The literal part of a template up to its end or its next `${`. */
  const template = (): void => {
    take(matched(/(?:[^`\\$]|\\[\s\S]|\$(?!\{))*/y), 'text')
    if (source[at] === '$') {
      templates.push(depth)
      take(2, 'text')
    } else take(1, 'text')
  }
  while (at < source.length) {
    const char = source[at]
    const comment = matched(/\/\/[^\n]*|\/\*[\s\S]*?\*\/|#![^\n]*/y)
    if (comment > 0) take(comment, 'none')
    else if (char === "'" || char === '"') take(matched(/(['"])(?:\\[\s\S]|(?!\1)[^\\\n])*\1?/y), 'text')
    else if (char === '`') {
      take(1, 'text')
      template()
    } else if (char === '}' && templates.at(-1) === depth) {
      templates.pop()
      take(1, 'text')
      template()
    } else if (char === '/' && startsRegex(code)) {
      take(Math.max(1, matched(/\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/[a-z]*/y)), 'text')
    } else {
      if (char === '{') depth++
      if (char === '}') depth--
      take(1, 'both')
    }
  }
  return { code, text }
}

/** Whether a slash here begins a regular expression: nothing stands before it that could be divided. */
function startsRegex(before: string): boolean {
  const last = before.trimEnd()
  return (
    last === '' || /[(,=:[!&|?{};<>+\-*%~^]$|\b(?:return|typeof|case|of|in|do|else|yield|await)$/.test(last)
  )
}

function readSources(folder: string, prefix = ''): Record<string, string> {
  const sources: Record<string, string> = {}
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = `${prefix}${entry.name}`
    if (entry.isDirectory()) Object.assign(sources, readSources(join(folder, entry.name), `${path}/`))
    else if (/\.[cm]?[jt]s$/.test(entry.name)) sources[path] = readFileSync(join(folder, entry.name), 'utf8')
  }
  return sources
}

describe('src', () => {
  const sources = readSources(SRC)

  test('has sources to look at', () => {
    expect(Object.keys(sources)).toContain('types.ts')
    expect(Object.keys(sources).length).toBeGreaterThan(5)
  })

  test('keeps the rules: imports, process, vendors', () => {
    expect(breaches(sources)).toEqual([])
  })

  test('imports only files that exist', () => {
    const missing = Object.entries(sources).flatMap(([path, source]) =>
      specifiers(strip(source).text)
        .filter((name) => name.startsWith('.'))
        .map((name) => posix.join(posix.dirname(path), name))
        .filter((target) => !existsSync(join(SRC, target)))
        .map((target) => `${path}: ${target}`),
    )
    expect(missing).toEqual([])
  })
})

describe('the rules can be broken', () => {
  const good: Sources = {
    'types.ts': 'export type A = 1',
    'errors.ts': "import type { A } from './types.ts'",
    'bytes/sse.ts': "import { a } from './scan.ts'",
    'quota/meter.ts':
      "import { b } from '../bytes/sse.ts'\nimport type { S } from '../config/snapshot.ts'\nimport { E } from '../errors.ts'\nimport z from 'zod'",
    'quota/inner/deep.ts': "import { m } from '../meter.ts'\nimport { o } from '../../formats/openai.ts'",
    'formats/anthropic.ts': "export const name = 'anthropic'",
    'upstream/vendors.ts': "export const hosts = ['api.anthropic.com']",
    'gateway.ts': "import { m } from './quota/meter.ts'\nimport { t } from './types.ts'",
    'reload.ts': "import { k } from './secrets/keyring.ts'\nimport type { F } from './workers/fleet.ts'",
    'operators.ts': "import { m } from './quota/meter.ts'\nimport { f } from './workers/fleet.ts'",
    'main.ts': [
      "import { g } from './gateway.ts'",
      "import { o } from './operators.ts'",
      "import { r } from './reload.ts'",
      "import { c } from './cli/run.ts'",
      'process.exit(0)',
    ].join('\n'),
    'route/plan.ts': [
      '// A process of gemini and azure. import("../quota/meter.ts") from "../quota/meter.ts"',
      '/* process.env, Bedrock */',
      "const words = 'process.env of the process'",
      'const both = `the process $' + '{a} of process.exit`',
      'const quote = /["\'`]\\/process/.test(words)',
      'const half = (1 + 2) / 3 / words.length',
      'const store = { process: half }',
      'room.process()',
      'const subprocess = preprocess(processes)',
    ].join('\n'),
  }

  test('not by sources that keep them', () => {
    expect(breaches(good)).toEqual([])
  })

  const bad: readonly [path: string, source: string, what: string][] = [
    ['quota/meter.ts', "import { p } from '../policy/decide.ts'", 'imports policy/decide.ts'],
    ['quota/meter.ts', "import type { P } from '../policy/decide.ts'", 'imports policy/decide.ts'],
    ['quota/meter.ts', "import {\n  a,\n  b,\n} from '../policy/decide.ts'", 'imports policy/decide.ts'],
    ['quota/meter.ts', 'import "../policy/decide.ts"', 'imports policy/decide.ts'],
    ['quota/meter.ts', "export * from '../policy/decide.ts'", 'imports policy/decide.ts'],
    ['quota/meter.ts', "const p = await import('../policy/decide.ts')", 'imports policy/decide.ts'],
    ['quota/meter.ts', 'const p = await import(name)', 'imports something that is not written out'],
    ['quota/meter.ts', "const p = require('../policy/decide.ts')", 'imports policy/decide.ts'],
    ['quota/deep/meter.ts', "import { p } from '../../policy/decide.ts'", 'imports policy/decide.ts'],
    ['quota/meter.ts', "import { g } from '../gateway.ts'", 'imports gateway.ts'],
    ['quota/meter.ts', "import { o } from '../operators.ts'", 'imports operators.ts'],
    ['workers/fleet.ts', "import type { R } from '../reload.ts'", 'imports reload.ts'],
    ['quota/meter.ts', "import { g } from '../main.ts'", 'imports main.ts'],
    ['quota/meter.ts', "import { t } from '../../test/support/redis.ts'", 'imports ../test/support/redis.ts'],
    ['bytes/sse.ts', "import { h } from '../http/reply.ts'", 'imports http/reply.ts'],
    ['errors.ts', "import { b } from './bytes/sse.ts'", 'imports bytes/sse.ts'],
    ['types.ts', "import { b } from './errors.ts'", 'imports errors.ts'],
    ['gateway.ts', "import { m } from './main.ts'", 'imports main.ts'],
    ['gateway.ts', "import { o } from './operators.ts'", 'imports operators.ts'],
    ['operators.ts', "import type { G } from './gateway.ts'", 'imports gateway.ts'],
    ['operators.ts', "import { m } from './main.ts'", 'imports main.ts'],
    ['reload.ts', "import { b } from './gateway.ts'", 'imports gateway.ts'],
    ['reload.ts', "import { o } from './operators.ts'", 'imports operators.ts'],
    ['helpers.ts', 'export {}', 'a file at the top that no rule knows'],
    ['http/listen.ts', 'process.exit(1)', 'touches process'],
    ['http/listen.ts', 'const { env } = process', 'touches process'],
    ['http/listen.ts', 'const home = globalThis.process.env.HOME', 'touches process'],
    ['http/listen.ts', 'const t = a ? process : b', 'touches process'],
    ['http/listen.ts', 'const t = `$' + '{process.pid}`', 'touches process'],
    ['http/listen.ts', "const t = /'/.test(a) // '\nprocess.exit()", 'touches process'],
    ['http/listen.ts', "import { env } from 'node:process'", 'imports node:process'],
    ['http/listen.ts', "import { env } from 'process'", 'imports node:process'],
    ['gateway.ts', 'process.on("SIGHUP", reload)', 'touches process'],
    ['operators.ts', 'const { pid } = process', 'touches process'],
    ['reload.ts', "process.on('SIGHUP', reload)", 'touches process'],
    ['http/listen.ts', "if (format === 'anthropic') return", 'names a vendor: anthropic'],
    ['http/listen.ts', 'const isGemini = true', 'names a vendor: Gemini'],
    ['upstream/transport.ts', 'const AZURE_VERSION = 1', 'names a vendor: AZURE'],
    ['main.ts', 'const bedrockRegion = 1', 'names a vendor: bedrock'],
    ['cli/run.ts', "const url = 'https://vertex.example'", 'names a vendor: vertex'],
  ]
  for (const [path, source, what] of bad) {
    test(`${path} ${what}: ${source.replaceAll('\n', ' ').slice(0, 60)}`, () => {
      expect(breaches({ ...good, [path]: source })).toContain(`${path}: ${what}`)
    })
  }
})
