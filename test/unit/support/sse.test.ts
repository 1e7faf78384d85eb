// The tests' own SSE reader, on the cases of the WHATWG rules that streams of models have.

import { expect, test } from 'vitest'
import { createSseParser, parseSse } from '../../support/sse.ts'

const STREAM =
  ': hello\r\n\r\ndata: a\r\ndata:b\r\n\r\nevent: x\nid: 7\ndata:  grün 🌿\n\ndata\r\revent: only\n\ndata: open'

const seen = (bytes: Buffer, size: number): unknown[] => {
  const parser = createSseParser()
  const events = []
  for (let at = 0; at < bytes.length; at += size) events.push(...parser.push(bytes.subarray(at, at + size)))
  expect(parser.rest()).toBe('data: open')
  expect(parser.comments).toEqual(['hello'])
  return events.map(({ event, data, id }) => ({ event, data, id }))
}

test('reads the same events however the bytes are cut', () => {
  const bytes = Buffer.from(STREAM)
  for (let size = 1; size <= bytes.length; size++) {
    expect(seen(bytes, size)).toEqual([
      { event: 'message', data: 'a\nb', id: undefined },
      { event: 'x', data: ' grün 🌿', id: '7' },
      { event: 'message', data: '', id: '7' },
    ])
  }
})

test('dispatches nothing that no blank line has closed', () => {
  expect(parseSse('data: a\n\ndata: b\n').map(({ data }) => data)).toEqual(['a'])
  expect(parseSse('data: a\r\r').map(({ data }) => data)).toEqual(['a'])
})
