import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  isReference,
  parseReference,
  resolveReference,
  type Surroundings,
} from '../../../src/secrets/reference.ts'

const KEY = 'live_9dK2mX7qT4vB8nR1'
const uid = process.getuid?.() ?? 0
const isRoot = uid === 0

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-secrets-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function around(over: Partial<Surroundings> = {}): Surroundings {
  return { env: {}, uid, groupReadable: false, ...over }
}

function file(name: string, mode = 0o600, content: string | Buffer = `${KEY}\n`): string {
  const path = join(folder, name)
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}

async function problemOf(path: string, over: Partial<Surroundings> = {}): Promise<string | undefined> {
  const { problem } = await resolveReference(`file:${path}`, around(over))
  expect(problem ?? '').not.toContain(KEY)
  return problem
}

describe('a reference', () => {
  it.each([
    ['env:A_1', { kind: 'env', name: 'A_1' }],
    ['file:/etc/a/../b', { kind: 'file', path: '/etc/b' }],
    ['file:///etc/b', { kind: 'file', path: '/etc/b' }],
  ])('%s is read', (reference, expected) => expect(parseReference(reference)).toEqual(expected))

  it.each([
    'env:',
    'env:1A',
    'env:A B',
    'file:',
    'file:relative',
    'file:/a/',
    'vault:a',
    'aws-sm:a',
    'sk-live-key',
    '',
  ])('%j is refused without repeating a literal', (reference) => {
    const problem = parseReference(reference)
    expect(problem).toBeTypeOf('string')
    expect(problem).not.toContain('sk-live')
  })

  it('is told from a literal', () => {
    expect(['env:A', 'file:/a', 'vault:a'].map(isReference)).toEqual([true, true, true])
    expect(['redis://a', 'rediss://u:p@a', 'sk-a', ''].map(isReference)).toEqual([false, false, false, false])
  })
})

describe('the environment', () => {
  it('gives the value without its line end', async () => {
    expect(await resolveReference('env:K', around({ env: { K: `${KEY}\r\n\n` } }))).toEqual({
      value: KEY,
      warnings: [],
    })
  })

  it.each([
    ['not set', undefined, 'env:K: the environment variable is not set'],
    ['empty', '', 'env:K: is empty'],
    ['empty but for line ends', '\n\n', 'env:K: is empty'],
    ['of two lines', `${KEY}\nX-Other: 1`, 'env:K: holds a control character or a line break inside'],
    ['with a NUL', `${KEY}\0`, 'env:K: holds a control character or a line break inside'],
    [
      'with letters beyond ASCII',
      `${KEY}ключ`,
      'env:K: holds a character that is not visible ASCII, as a key must be (RFC 9110 §5.5)',
    ],
    [
      'with a letter of Latin-1',
      `${KEY}é`,
      'env:K: holds a character that is not visible ASCII, as a key must be (RFC 9110 §5.5)',
    ],
    [
      'with a quote of a word processor',
      `“${KEY}”`,
      'env:K: holds a character that is not visible ASCII, as a key must be (RFC 9110 §5.5)',
    ],
    [
      'with a space that does not break',
      `${KEY}\u00a0`,
      'env:K: holds a character that is not visible ASCII, as a key must be (RFC 9110 §5.5)',
    ],
    ['huge', 'k'.repeat(65_537), 'env:K: is larger than 64 KiB'],
  ])('is refused when it is %s', async (_, K, problem) => {
    expect(await resolveReference('env:K', around({ env: { K } }))).toEqual({ problem })
  })

  it('warns of a short value and of spaces around one', async () => {
    const short = await resolveReference('env:K', around({ env: { K: 'short12' } }))
    expect(short.value).toBe('short12')
    expect(short.warnings?.join()).toMatch(/^env:K: is shorter than 8 characters/)
    const spaced = await resolveReference('env:K', around({ env: { K: ` ${KEY}` } }))
    expect(spaced.warnings?.join()).toBe('env:K: begins or ends with a space')
  })
})

describe('an address', () => {
  it('may hold letters beyond ASCII, as no header carries it', async () => {
    const env = { K: 'redis://:pässwörd@redis:6379' }
    expect(await resolveReference('env:K', around({ env }), 'url')).toEqual({ value: env.K, warnings: [] })
  })
})

describe('the content of a file', () => {
  it('beyond ASCII is refused, but for a byte order mark', async () => {
    const path = file('key', 0o600, `${KEY}ключ\n`)
    expect(await problemOf(path)).toBe(
      `file:${path}: holds a character that is not visible ASCII, as a key must be (RFC 9110 §5.5)`,
    )
    const marked = await resolveReference(`file:${file('marked', 0o600, `\ufeff${KEY}\n`)}`, around())
    expect(marked).toMatchObject({ value: KEY, warnings: [] })
  })
})

describe('the mode of a file', () => {
  it.each([0o400, 0o600, 0o700])('%o is accepted', async (mode) => {
    expect(await resolveReference(`file:${file('key', mode)}`, around())).toMatchObject({
      value: KEY,
      warnings: [],
    })
  })

  it.each([0o644, 0o604, 0o640, 0o440, 0o660, 0o602, 0o620, 0o601, 0o777, 0o444])(
    '%o is refused',
    async (mode) => {
      const path = file('key', mode)
      expect(await problemOf(path)).toBe(
        `file:${path}: mode ${mode.toString(8).padStart(4, '0')}, needs 0400 or 0600`,
      )
    },
  )

  it.each([
    [0o440, true],
    [0o400, true],
    [0o600, true],
    [0o700, true],
    [0o640, false],
    [0o540, false],
    [0o460, false],
    [0o660, false],
    [0o450, false],
    [0o444, false],
    [0o644, false],
  ])('%o with groupReadable: accepted is %s', async (mode, accepted) => {
    const problem = await problemOf(file('key', mode), { groupReadable: true })
    expect(problem === undefined).toBe(accepted)
    if (!accepted) expect(problem).toContain('needs 0400, 0440 or 0600')
  })

  it('is not looked at where there are no users', async () => {
    expect(await problemOf(file('key', 0o644), { uid: undefined })).toBeUndefined()
  })
})

describe('the owner of a file', () => {
  it('must be the running user or root', async () => {
    const path = file('key')
    if (isRoot) {
      chownSync(path, 4242, 4242)
      expect(await problemOf(path)).toBe(
        `file:${path}: is owned by uid 4242, needs to be owned by uid 0 or root`,
      )
      expect(await problemOf(path, { uid: 4242 })).toBeUndefined()
      chownSync(path, 0, 0)
      expect(await problemOf(path, { uid: 4242 })).toBeUndefined()
    } else expect(await problemOf(path, { uid: uid + 1 })).toContain('is owned by uid')
  })
})

describe('the directories of a file', () => {
  it('are refused when others can write them, near or far', async () => {
    const path = file('a/b/key')
    chmodSync(join(folder, 'a/b'), 0o777)
    expect(await problemOf(path)).toBe(
      `file:${path}: the directory ${join(folder, 'a/b')} can be written by others: mode 0777, needs 0775`,
    )
    chmodSync(join(folder, 'a/b'), 0o755)
    chmodSync(join(folder, 'a'), 0o757)
    expect(await problemOf(path)).toContain(`the directory ${join(folder, 'a')} can be written by others`)
    chmodSync(join(folder, 'a'), 0o775)
    expect(await problemOf(path)).toBeUndefined()
  })

  it('may have the sticky bit when the next step belongs to us or root', async () => {
    const path = file('shared/mine/key')
    chmodSync(join(folder, 'shared'), 0o1777)
    expect(await problemOf(path)).toBeUndefined()
    if (!isRoot) return
    chownSync(join(folder, 'shared/mine'), 4242, 4242)
    expect(await problemOf(path)).toBe(
      `file:${path}: the directory ${join(folder, 'shared')} can be written by others and ${join(folder, 'shared/mine')} is owned by uid 4242, needs uid 0 or root`,
    )
    expect(await problemOf(path, { uid: 4242 })).toBeUndefined()
  })

  it('are looked at along the way as written and as it really is', async () => {
    const path = file('real/key')
    mkdirSync(join(folder, 'open'))
    symlinkSync(join(folder, 'real'), join(folder, 'open/link'))
    expect(await problemOf(join(folder, 'open/link/key'))).toBeUndefined()
    chmodSync(join(folder, 'open'), 0o777)
    expect(await problemOf(join(folder, 'open/link/key'))).toContain('can be written by others')
    chmodSync(join(folder, 'open'), 0o755)
    chmodSync(dirname(path), 0o777)
    expect(await problemOf(join(folder, 'open/link/key'))).toContain('can be written by others')
  })
})

describe('a symbolic link', () => {
  it('is followed as Kubernetes mounts it, and as it is swapped', async () => {
    file('..2026_11_21/key')
    file('..2026_11_22/key', 0o400, 'the-next-value\n')
    symlinkSync('..2026_11_21', join(folder, '..data'))
    symlinkSync('..data/key', join(folder, 'key'))
    // The root of a secret volume is a world-writable directory with the sticky bit.
    chmodSync(folder, 0o1777)
    const reference = `file:${join(folder, 'key')}`
    expect((await resolveReference(reference, around())).value).toBe(KEY)
    rmSync(join(folder, '..data'))
    symlinkSync('..2026_11_22', join(folder, '..data'))
    expect((await resolveReference(reference, around())).value).toBe('the-next-value')
  })

  it.each([
    ['to a neighbour', 'real'],
    ['below', 'sub/real'],
    ['out and back in by name', '../home/real'],
  ])('is followed %s', async (_, target) => {
    file('home/real')
    file('home/sub/real')
    symlinkSync(target, join(folder, 'home/key'))
    expect(await problemOf(join(folder, 'home/key'))).toBeUndefined()
  })

  it('is followed by an absolute path inside the directory', async () => {
    symlinkSync(file('home/real'), join(folder, 'home/key'))
    expect(await problemOf(join(folder, 'home/key'))).toBeUndefined()
  })

  it.each([
    ['to the parent', '../outside'],
    ['to a directory with the same beginning', '../home-2/real'],
    ['through a neighbour that leads out', 'door/outside'],
    ['to itself as a directory', '.'],
    ['to the parent itself', '..'],
    ['absolutely', '/etc/hostname'],
  ])('is refused when it leads outside: %s', async (_, target) => {
    file('outside')
    file('home-2/real')
    file('home/real')
    symlinkSync('..', join(folder, 'home/door'))
    symlinkSync(target, join(folder, 'home/key'))
    const problem = await problemOf(join(folder, 'home/key'))
    expect(problem).toContain(`leads outside its directory ${join(folder, 'home')}`)
  })

  it('is refused in a circle', async () => {
    symlinkSync('b', join(folder, 'a'))
    symlinkSync('a', join(folder, 'b'))
    expect(await problemOf(join(folder, 'a'))).toContain('more than 16 symbolic links')
  })

  it('is followed to a file with the wrong mode, which is refused', async () => {
    file('real', 0o644)
    symlinkSync('real', join(folder, 'key'))
    expect(await problemOf(join(folder, 'key'))).toContain('mode 0644, needs 0400 or 0600')
  })
})

describe('an address', () => {
  it('may hold letters beyond ASCII, as no header carries it', async () => {
    const env = { K: 'redis://:pässwörd@redis:6379' }
    expect(await resolveReference('env:K', around({ env }), 'url')).toEqual({ value: env.K, warnings: [] })
  })
})

describe('the content of a file', () => {
  it.each([
    ['empty', '', 'is empty'],
    ['only line ends', '\n\n', 'is empty'],
    ['two lines', `${KEY}\n${KEY}\n`, 'holds a control character'],
    ['a tab', `${KEY}\t1`, 'holds a control character'],
    ['too large', 'k'.repeat(65_537), 'is larger than 64 KiB'],
    ['not text', Buffer.from([0xff, 0xfe, 0x41]), 'is not UTF-8 text'],
  ])('is refused when it is %s', async (_, content, problem) => {
    expect(await problemOf(file('key', 0o600, content))).toContain(problem)
  })

  it('may be 64 KiB', async () => {
    const path = file('key', 0o600, 'k'.repeat(65_536))
    expect((await resolveReference(`file:${path}`, around())).value).toHaveLength(65_536)
  })

  it('must be a file that is there', async () => {
    expect(await problemOf(join(folder, 'none'))).toContain('there is no such file')
    expect(await problemOf(join(folder, 'none/at/all'))).toContain('there is no such file')
    expect(await problemOf(join(file('plain'), 'below'))).toContain('there is no such file')
    mkdirSync(join(folder, 'dir'), { mode: 0o700 })
    expect(await problemOf(join(folder, 'dir'))).toContain('is not a regular file')
  })

  it('is not waited for in a pipe', async () => {
    execFileSync('mkfifo', ['-m', '600', join(folder, 'pipe')])
    expect(await problemOf(join(folder, 'pipe'))).toContain('is not a regular file')
  })
})
