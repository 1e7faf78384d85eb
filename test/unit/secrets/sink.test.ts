import { spawnSync } from 'node:child_process'
import { Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { createScrubber } from '../../../src/secrets/scrubber.ts'
import { createScrubbedWritable, patchStream } from '../../../src/secrets/sink.ts'

const KEY = 'live_9dK2mX7qT4vB8nR1'

function knowing(...secrets: string[]) {
  const scrubber = createScrubber()
  scrubber.setSecrets(secrets)
  return scrubber
}

/** A real Writable that keeps what arrives. */
function createTarget() {
  const chunks: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(String(chunk))
      done()
    },
  })
  return { stream, text: () => chunks.join('') }
}

describe('a scrubbed destination', () => {
  it('writes whole lines at once', () => {
    const lines: (Buffer | string)[] = []
    const sink = createScrubbedWritable((line) => lines.push(line), knowing(KEY))
    sink.write(`{"a":"${KEY}"}\n`)
    sink.write('plain\n')
    expect(lines).toEqual(['{"a":"[redacted]"}\n', 'plain\n'])
  })

  it('joins what comes in pieces, also around whole lines', () => {
    let out = ''
    const sink = createScrubbedWritable((line) => void (out += line), knowing(KEY))
    for (const piece of ['one\n', `two ${KEY.slice(0, 9)}`, `${KEY.slice(9)}\n`, 'three\n', KEY.slice(0, 12)])
      sink.write(piece)
    expect(out).toBe('one\ntwo [redacted]\nthree\n')
    sink.flushSync()
    sink.write(`${KEY.slice(12)}\nlast\n`)
    expect(out).toBe('one\ntwo [redacted]\nthree\n[redacted]\nlast\n')
  })
})

describe('a patched stream', () => {
  it('scrubs strings, bytes and other encodings, and keeps callbacks', async () => {
    const target = createTarget()
    const patched = patchStream(target.stream, knowing(KEY))
    const { stream } = target
    await new Promise<void>((done) => void stream.write(`a ${KEY}\n`, () => done()))
    await new Promise<void>((done) => void stream.write(`b ${KEY}\n`, 'utf8', () => done()))
    await new Promise<void>((done) => void stream.write(Buffer.from(`c ${KEY}\n`), () => done()))
    await new Promise<void>(
      (done) => void stream.write(Buffer.from(`d ${KEY}\n`).toString('hex'), 'hex', () => done()),
    )
    await new Promise<void>(
      (done) => void stream.write(new Uint8Array(Buffer.from(`e ${KEY}\n`)), () => done()),
    )
    expect(target.text()).toBe('abcde'.replace(/./g, '$& [redacted]\n'))
    patched.restore()
  })

  it('calls back though everything is held, and flushes a fragment redacted', async () => {
    const target = createTarget()
    const patched = patchStream(target.stream, knowing(KEY))
    await new Promise<void>((done) => void target.stream.write(KEY.slice(0, 10), () => done()))
    expect(target.text()).toBe('')
    patched.flush()
    expect(target.text()).toBe('[redacted]')
  })

  it('scrubs what comes with the end', async () => {
    const target = createTarget()
    patchStream(target.stream, knowing(KEY))
    target.stream.write(KEY.slice(0, 5))
    await new Promise<void>((done) => void target.stream.end(KEY.slice(5), () => done()))
    expect(target.text()).toBe('[redacted]')
  })

  it('has a way past the scrubber, and can be taken off', () => {
    const target = createTarget()
    const { write } = target.stream
    const patched = patchStream(target.stream, knowing(KEY))
    patched.original(`export OPENAI_API_KEY=${KEY}\n`)
    target.stream.write(`${KEY}\nheld ${KEY.slice(0, 4)}`)
    patched.restore()
    expect(target.stream.write).toBe(write)
    expect(Object.hasOwn(target.stream, 'write')).toBe(false)
    target.stream.write(`\n${KEY}\n`)
    expect(target.text()).toBe(`export OPENAI_API_KEY=${KEY}\n[redacted]\nheld ${KEY.slice(0, 4)}\n${KEY}\n`)
  })

  it('leaves the complaint about a wrong chunk to the stream', () => {
    const target = createTarget()
    patchStream(target.stream, knowing(KEY))
    expect(() => Reflect.apply(target.stream.write, target.stream, [42])).toThrow(/chunk/)
  })

  it('takes the console, warnings and timers of a real process along', () => {
    const room = new URL('../../../src/secrets/', import.meta.url)
    const program = `
      import { createScrubber } from '${room}scrubber.ts'
      import { patchStream } from '${room}sink.ts'
      const scrubber = createScrubber()
      scrubber.setSecrets(['${KEY}'])
      patchStream(process.stdout, scrubber)
      patchStream(process.stderr, scrubber)
      console.log('log ${KEY}'); console.error(new Error('error ${KEY}')); console.table([{ a: '${KEY}' }])
      console.trace('trace ${KEY}'); console.dir({ k: '${KEY}' }); console.warn('%s', '${KEY}')
      process.emitWarning('warning ${KEY}')
      process.stdout.write('${KEY.slice(0, 7)}'); process.stdout.write('${KEY.slice(7)}\\n')
      setTimeout(() => console.log('done'), 1)`
    const node = new URL('../../../node_modules/.bin/node', import.meta.url).pathname
    const { stdout, stderr, status } = spawnSync(node, ['--input-type=module-typescript', '-e', program], {
      encoding: 'utf8',
    })
    expect(status).toBe(0)
    expect(stdout + stderr).not.toContain(KEY)
    expect(stdout).toContain('log [redacted]\n')
    expect(stdout).toMatch(/\n\[redacted\]\ndone\n$/)
    expect(stderr).toContain('Warning: warning [redacted]')
  })
})
