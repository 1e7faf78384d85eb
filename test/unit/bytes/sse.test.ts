import { describe, expect, it } from 'vitest'
import { createFrameSplitter, FrameTooLarge, MAX_FRAME_BYTES } from '../../../src/bytes/sse.ts'
import type { Frame } from '../../../src/types.ts'

interface Read {
  readonly frames: Frame[]
  readonly rest: Frame | undefined
}

function split(...chunks: readonly string[]): Read {
  const splitter = createFrameSplitter()
  const frames = chunks.flatMap((chunk) => splitter.push(Buffer.from(chunk)))
  return { frames, rest: splitter.rest() }
}

const texts = ({ frames }: Read): string[] => frames.map((frame) => frame.bytes.toString())
const values = ({ frames }: Read): (string | undefined)[] => frames.map((frame) => frame.data)

describe('frame splitter', () => {
  it.each([
    ['LF', 'data: a\n\n', 'data: b\n\n'],
    ['CRLF', 'data: a\r\n\r\n', 'data: b\r\n\r\n'],
    ['CR', 'data: a\r\r', 'data: b\r\r'],
    ['LF then CRLF', 'data: a\n\r\n', 'data: b\r\n\n'],
    ['CR then LF', 'data: a\r\n\n', 'data: b\r\n\r\n'],
  ])('cuts frames that end with %s', (_, first, second) => {
    const read = split(`${first}${second}data: c`)
    expect(texts(read)).toEqual([first, second])
    expect(values(read)).toEqual(['a', 'b'])
    expect(read.rest?.bytes.toString()).toBe('data: c')
  })

  it.each([
    ['one space behind the colon is dropped', 'data: a\n\n', 'a', undefined],
    ['only one space is dropped', 'data:  a\n\n', ' a', undefined],
    ['no space is needed', 'data:a\n\n', 'a', undefined],
    ['lines of data are joined', 'data: a\ndata:\ndata: b\n\n', 'a\n\nb', undefined],
    ['a line without a colon is a name', 'data\n\n', '', undefined],
    ['an event has a name', 'event: error\ndata: {}\n\n', '{}', 'error'],
    ['the last name counts', 'event: a\nevent: b\ndata: x\n\n', 'x', 'b'],
    ['a name behind the data counts', 'data: x\nevent: b\n\n', 'x', 'b'],
    ['comments are no data', ': keep-alive\n\n', undefined, undefined],
    ['a comment beside data is left out', ':x\ndata: a\n: y\n\n', 'a', undefined],
    ['id and retry are no data', 'id: 1\nretry: 5\n\n', undefined, undefined],
    ['names are told apart by case', 'Data: a\n\n', undefined, undefined],
    ['names are whole words', 'database: a\n\n', undefined, undefined],
    ['a colon in the value stays', 'data: a: b\n\n', 'a: b', undefined],
    ['a blank line alone is a frame', '\n', undefined, undefined],
  ])('%s', (_, text, data, event) => {
    const read = split(text, ':\n\n')
    expect(read.frames[0]).toEqual({ bytes: Buffer.from(text), data, event })
  })

  it('takes a byte order mark off the first line only, and keeps its bytes', () => {
    const read = split('\ufeffdata: a\n\n\ufeffdata: b\n\n')
    expect(values(read)).toEqual(['a', undefined])
    expect(texts(read).join('')).toBe('\ufeffdata: a\n\n\ufeffdata: b\n\n')
  })

  it('keeps characters whole that are cut between chunks', () => {
    const bytes = Buffer.from('data: 👩‍🚀 — 日本\n\n')
    const splitter = createFrameSplitter()
    const frames = [...bytes].flatMap((byte) => splitter.push(Buffer.from([byte])))
    expect(frames).toEqual([{ bytes, data: '👩‍🚀 — 日本', event: undefined }])
    expect(splitter.rest()).toBeUndefined()
  })

  it('gives a last event whose blank line is missing as the rest, once', () => {
    const splitter = createFrameSplitter()
    splitter.push(Buffer.from('data: a\n\ndata: b\n'))
    expect(splitter.rest()).toEqual({ bytes: Buffer.from('data: b\n'), data: 'b', event: undefined })
    expect(splitter.rest()).toBeUndefined()
  })

  it.each(['\n', '\r', '\r\n'])('a surplus blank line is a frame of its own (%j)', (end) => {
    const read = split(`data: a${end}${end}${end}data: b${end}${end}:`)
    expect(texts(read)).toEqual([`data: a${end}${end}`, end, `data: b${end}${end}`])
  })

  it('completes a frame on the LF behind its last CR, also in the next chunk', () => {
    const splitter = createFrameSplitter()
    expect(splitter.push(Buffer.from('data: a\r\n\r'))).toEqual([])
    expect(splitter.push(Buffer.from('\ndata: b'))).toEqual([
      { bytes: Buffer.from('data: a\r\n\r\n'), data: 'a', event: undefined },
    ])
  })

  it('refuses an event that grows beyond the bound, however it is cut', () => {
    for (const size of [1, 7, 100]) {
      const splitter = createFrameSplitter(100)
      const push = (): void => {
        for (let sent = 0; sent < 300; sent += size) splitter.push(Buffer.alloc(size, 'x'))
      }
      expect(push).toThrow(FrameTooLarge)
    }
    expect(MAX_FRAME_BYTES).toBe(8 * 1024 * 1024)
  })

  it('accepts any number of events that are each within the bound', () => {
    const splitter = createFrameSplitter(100)
    let frames = 0
    for (let i = 0; i < 1000; i += 1) {
      frames += splitter.push(Buffer.from(`data: ${'x'.repeat(60)}`)).length
      frames += splitter.push(Buffer.from('yyyyyyyyyyyyyyyyyyyyyyyy\n\n')).length
    }
    expect(frames).toBe(1000)
  })
})
