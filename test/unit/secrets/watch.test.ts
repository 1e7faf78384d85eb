import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Watch, watchFiles } from '../../../src/secrets/watch.ts'

let folder: string
let changes: number
let watch: Watch
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-watch-'))
  changes = 0
})
afterEach(() => {
  watch.stop()
  rmSync(folder, { recursive: true, force: true })
})

function createTimers() {
  const timers = {
    tick: () => {},
    everyMs: 0,
    unreffed: false,
    cleared: false,
    setInterval(tick: () => void, everyMs: number) {
      timers.tick = tick
      timers.everyMs = everyMs
      return { unref: () => (timers.unreffed = true) }
    },
    clearInterval: () => {
      timers.cleared = true
    },
  }
  return timers
}

async function start(...names: string[]) {
  const timers = createTimers()
  watch = watchFiles({
    paths: () => names.map((name) => join(folder, name)),
    onChange: () => void changes++,
    timers,
  })
  await watch.ready
  return timers
}

/** Number of changes told by some looks. */
async function told(looks = 1): Promise<number> {
  const before = changes
  for (let i = 0; i < looks; i++) await watch.look()
  return changes - before
}

function put(name: string, content = name): void {
  writeFileSync(join(folder, name), content)
}

describe('a watch', () => {
  it('tells nothing while nothing changes', async () => {
    put('key')
    const timers = await start('key')
    expect(await told(5)).toBe(0)
    expect(timers).toMatchObject({ everyMs: 1000, unreffed: true, cleared: false })
  })

  it('tells of a change once, after two equal readings', async () => {
    put('key')
    await start('key')
    put('key', 'another')
    expect(await told()).toBe(0)
    expect(await told()).toBe(1)
    expect(await told(3)).toBe(0)
  })

  it('waits while files are still being written', async () => {
    put('a')
    put('b')
    await start('a', 'b')
    for (let i = 0; i < 4; i++) {
      put('a', 'x'.repeat(i + 10))
      expect(await told()).toBe(0)
    }
    put('b', 'other')
    expect(await told()).toBe(0)
    expect(await told()).toBe(1)
  })

  it('tells of files that vanish and come back', async () => {
    put('key')
    await start('key', 'never')
    rmSync(join(folder, 'key'))
    expect(await told(2)).toBe(1)
    put('key')
    expect(await told(2)).toBe(1)
  })

  it('tells of a replacement by rename and of a repaired mode', async () => {
    put('key')
    await start('key')
    put('next', 'key')
    renameSync(join(folder, 'next'), join(folder, 'key'))
    expect(await told(2)).toBe(1)
    chmodSync(join(folder, 'key'), 0o400)
    expect(await told(2)).toBe(1)
  })

  it('tells of a Kubernetes mount that was swapped', async () => {
    for (const version of ['..1', '..2']) {
      mkdirSync(join(folder, version))
      put(`${version}/key`)
    }
    symlinkSync('..1', join(folder, '..data'))
    symlinkSync('..data/key', join(folder, 'key'))
    await start('key')
    expect(await told(2)).toBe(0)
    symlinkSync('..2', join(folder, '..tmp'))
    renameSync(join(folder, '..tmp'), join(folder, '..data'))
    expect(await told(2)).toBe(1)
  })

  it('tells of files of a directory: new, changed, gone', async () => {
    mkdirSync(join(folder, 'policies'))
    put('policies/a.yaml')
    await start('policies')
    put('policies/b.yaml')
    expect(await told(2)).toBe(1)
    put('policies/a.yaml', 'changed')
    expect(await told(2)).toBe(1)
    rmSync(join(folder, 'policies/b.yaml'))
    expect(await told(2)).toBe(1)
    rmSync(join(folder, 'policies'), { recursive: true })
    expect(await told(2)).toBe(1)
  })

  it('looks at a large directory piece by piece', async () => {
    mkdirSync(join(folder, 'policies'))
    for (let i = 0; i < 1500; i++) put(`policies/${String(i).padStart(4, '0')}`, '')
    await start('policies')
    expect(await told(4)).toBe(0)
    put('policies/1499', 'changed')
    expect(await told(4)).toBe(1)
    put('policies/0000', 'changed')
    expect(await told(4)).toBe(1)
    put('policies/new')
    expect(await told(4)).toBeGreaterThanOrEqual(1)
    expect(await told(4)).toBe(0)
  })

  it('looks when the timer says so, one look at a time, and not after the stop', async () => {
    put('key')
    const timers = await start('key')
    put('key', 'another')
    timers.tick()
    timers.tick()
    await watch.look()
    expect(changes).toBe(0)
    timers.tick()
    await watch.look()
    expect(changes).toBe(1)
    put('key', 'a third')
    watch.stop()
    expect(timers.cleared).toBe(true)
    expect(await told(3)).toBe(0)
  })

  it('goes on after a change that could not be handled', async () => {
    const errors: unknown[] = []
    put('key')
    watch = watchFiles({
      paths: () => [join(folder, 'key')],
      onChange: () => Promise.reject(new Error(`no ${++changes}`)),
      timers: createTimers(),
      onError: (error) => errors.push(error),
    })
    await watch.ready
    for (const content of ['one', 'three']) {
      put('key', content)
      await told(2)
    }
    expect(errors.map(String)).toEqual(['Error: no 1', 'Error: no 2'])
  })
})
