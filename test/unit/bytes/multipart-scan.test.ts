import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  boundaryOf,
  type FormScan,
  LONGEST_PART_HEAD,
  MOST_PARTS,
  scanForm,
} from '../../../src/bytes/multipart-scan.ts'

function form(...parts: readonly string[]): Buffer {
  return Buffer.from(`${parts.map((part) => `--b\r\n${part}\r\n`).join('')}--b--\r\n`)
}
const field = (name: string, value: string): string =>
  `Content-Disposition: form-data; name="${name}"\r\n\r\n${value}`

/** Name, kind and content of each part. */
function told(body: Buffer, scan: FormScan = scanForm(body, 'b')): unknown {
  if (!scan.ok) return `${scan.fault}: ${scan.message}`
  return scan.parts.map(({ name, isFile, span }) => [
    name,
    isFile,
    body.toString('utf8', span.start, span.end),
  ])
}

describe('the boundary of a content type', () => {
  it.each([
    ['multipart/form-data; boundary=abc', 'abc'],
    ['Multipart/Form-Data;charset=utf-8; Boundary="a b:c"', 'a b:c'],
    [
      'multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW',
      '----WebKitFormBoundary7MA4YWxkTrZu0gW',
    ],
    ['multipart/form-data', undefined],
    ['multipart/form-data; boundary=', undefined],
    ['multipart/form-data; boundary=a; boundary=b', undefined],
    ['multipart/form-data; boundary=a; boundary =b', undefined],
    ["multipart/form-data; boundary=a; boundary*=utf-8''b", undefined],
    ['multipart/form-data; boundary*0=b; boundary=a', undefined],
    ['multipart/form-data; boundary=boundary; charset=utf-8', 'boundary'],
    [`multipart/form-data; boundary=${'x'.repeat(71)}`, undefined],
    ['multipart/mixed; boundary=abc', undefined],
    ['application/json', undefined],
  ])('of %s is %s', (contentType, boundary) => {
    expect(boundaryOf(contentType)).toBe(boundary)
  })
})

describe('the parts of a form', () => {
  it('are found where they stand', () => {
    const file =
      'Content-Disposition: form-data; name="file"; filename="a; name=\\"model\\".wav"\r\nContent-Type: audio/wav\r\n\r\n\0\r\n--a\r\nRIFF'
    expect(told(form(field('model', 'whisper-1'), file, field('empty', '')))).toEqual([
      ['model', false, 'whisper-1'],
      ['file', true, '\0\r\n--a\r\nRIFF'],
      ['empty', false, ''],
    ])
  })

  it('may have something before the first and behind the last, and spaces behind a boundary', () => {
    const body = Buffer.from(`a preamble\r\n--b  \r\n${field('model', 'm')}\r\n--b--\r\nan epilogue`)
    expect(told(body)).toEqual([['model', false, 'm']])
  })

  it.each([
    ['', 'invalid: the body has no part'],
    ['{"model":"m"}', 'invalid: the body has no part'],
    ['--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nno end', 'invalid: the last part does not end'],
    ['--b\r\nContent-Disposition: form-data; name="a"', 'invalid: the head of a part does not end'],
    ['--bx\r\n\r\n\r\n--b--', 'invalid: a boundary is not at the end'],
    [`--b\r\n${field('model', 'm')}\r\n--b--x`, 'invalid: the last boundary is not at the end'],
    [
      `--b\r\nX: ${'x'.repeat(LONGEST_PART_HEAD)}\r\n\r\n\r\n--b--`,
      'invalid: the head of a part does not end',
    ],
  ])('are refused where they cannot be found: %j', (body, why) => {
    expect(told(Buffer.from(body))).toContain(why)
  })

  it.each([
    // Go: the first line feed that is bare says how lines end. aiohttp: a line is a line.
    `a\n--b\n${field('model', 'other')}\n--b--\n\r\n--b\r\n${field('model', 'm')}\r\n--b--\r\n`,
    `--b\r\n${field('prompt', `x\n--b\r\n${field('model', 'other')}`)}\r\n--b--\r\n`,
    `--b\r\n${field('model', 'm')}\r\n--b--\r\n--b\r\n${field('model', 'other')}\r\n--b--\r\n`,
    `--b\r\n${field('model', 'm')}\r\n--b--\r\n\n--b\r\n${field('model', 'other')}\r\n--b--\r\n`,
  ])('are refused where some would find another boundary: %j', (body) => {
    expect(told(Buffer.from(body))).toContain('ambiguous: a boundary stands behind')
  })

  it('take no longer to refuse, however their head is built', () => {
    for (const filler of [' ', ';', ';x="', '"', '\\"', 'a ', ';=" '])
      for (const end of ['', 'a"', '"a']) {
        const head = `Content-Disposition: form-data; name=${filler.repeat(3_900 / filler.length)}${end}`
        const startedMs = performance.now()
        expect(told(form(`${head}\r\n\r\nx`))).toContain('ambiguous')
        expect(performance.now() - startedMs).toBeLessThan(50)
      }
  })

  it('may have a name without quotes, as .NET writes it', () => {
    const file =
      "Content-Disposition: form-data; name=file; filename=a.mp3; filename*=utf-8''a.mp3\r\n\r\nRIFF"
    expect(told(form('Content-Disposition: form-data; name=model\r\n\r\nm', file))).toEqual([
      ['model', false, 'm'],
      ['file', true, 'RIFF'],
    ])
  })

  it.each([
    ['Content-Type: text/plain', 'no content-disposition'],
    ['Content-Disposition: attachment; name="a"', 'no form-data'],
    ['Content-Disposition: form-data', 'no name'],
    ['Content-Disposition: form-data; name=', 'must be plain'],
    ['Content-Disposition: form-data; name="a"b', 'read to its end'],
    ['Content-Disposition: form-data; name=a"b"', 'read to its end'],
    // Who knows no backslash reads a second name here.
    ['Content-Disposition: form-data; name="a"; filename="\\"; name="model"; x="', 'read to its end'],
    ['Content-Disposition: form-data; name="a\\"b"', 'must be plain'],
    ['Content-Disposition: form-data; name="%22"', 'must be plain'],
    ['Content-Disposition: form-data; name="a"; name="b"', 'two names'],
    ['Content-Disposition: form-data; name="a"; name*=UTF-8\'\'b', 'must be plain'],
    [
      'Content-Disposition: form-data; name="a"\r\ncontent-disposition: form-data; name="b"',
      'two content-disposition',
    ],
    ['Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64', 'encoded'],
    ['Content-Disposition: form-data; name="a"\r\n folded: b', 'no header'],
  ])('are refused where they can be read in two ways: %j', (head, why) => {
    expect(told(form(`${head}\r\n\r\nx`))).toContain(`ambiguous: `)
    expect(told(form(`${head}\r\n\r\nx`))).toContain(why)
  })

  it(`are at most ${MOST_PARTS}`, () => {
    const many = (count: number) => form(...Array.from({ length: count }, (_, i) => field(`f${i}`, 'x')))
    expect(told(many(MOST_PARTS))).toHaveLength(MOST_PARTS)
    expect(told(many(MOST_PARTS + 1))).toContain('more than')
  })

  it('are those that went in, as fetch writes them, whatever their content', async () => {
    const content = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('--b', '\r\n--', '\r\n\r\n', '--'),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            name: fc.constantFrom('model', 'file', 'prompt', 'image[]'),
            content,
            isFile: fc.boolean(),
          }),
          { minLength: 1, maxLength: 8 },
        ),
        async (wanted) => {
          const data = new FormData()
          for (const { name, content: text, isFile } of wanted)
            data.append(name, isFile ? new File([text], 'a.bin') : text)
          const request = new Request('http://localhost', { method: 'POST', body: data })
          const body = Buffer.from(await request.arrayBuffer())
          const boundary = boundaryOf(request.headers.get('content-type') ?? '') ?? ''
          const scan = scanForm(body, boundary)
          if (!scan.ok) throw new Error(scan.message)
          const parts = scan.parts.map(({ name, isFile, span }) => ({
            name,
            isFile,
            content: body.toString('utf8', span.start, span.end),
          }))
          // Fields are normalised (WHATWG: newlines become CR LF), files are not.
          const text = (one: string) => one.replace(/\r\n|\r|\n/g, '\r\n').toWellFormed()
          expect(parts).toEqual(
            wanted.map(({ name, content: said, isFile }) => ({
              name,
              isFile,
              content: isFile ? Buffer.from(said).toString('utf8') : text(said),
            })),
          )
        },
      ),
    )
  })

  it('never hang nor overlap, whatever comes', () => {
    const piece = fc.constantFrom(
      '--b',
      '--b--',
      '\r\n',
      '\r\n\r\n',
      'Content-Disposition: form-data; name="a"',
      'x',
      ' ',
      '\r',
      '-',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const body = Buffer.from(pieces.join(''))
        const scan = scanForm(body, 'b')
        if (!scan.ok) return
        let at = 0
        for (const { span } of scan.parts) {
          expect(span.start).toBeGreaterThanOrEqual(at)
          expect(span.end).toBeGreaterThanOrEqual(span.start)
          at = span.end
        }
      }),
      { numRuns: 2_000 },
    )
  })
})
