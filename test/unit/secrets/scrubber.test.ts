import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createScrubber } from '../../../src/secrets/scrubber.ts'

const KEY = 'live_9dK2mX7qT4vB8nR1'
const WORD = 'aB3dE5gH7jK9mN1pQ2'

function scrubberOf(...secrets: string[]) {
  const scrubber = createScrubber()
  scrubber.setSecrets(secrets)
  return scrubber
}

describe('by value', () => {
  it.each([
    ['raw', `a ${KEY} b`, 'a [redacted] b'],
    ['inside a word', `x${KEY}y`, 'x[redacted]y'],
    ['twice', `${KEY}${KEY}`, '[redacted][redacted]'],
    ['hex', `<${Buffer.from(KEY).toString('hex')}>`, '<[redacted]>'],
    ['upper-case hex', `<${Buffer.from(KEY).toString('hex').toUpperCase()}>`, '<[redacted]>'],
    [
      'hex with spaces',
      `dump ${[...Buffer.from(KEY)].map((b) => b.toString(16)).join(' ')}.`,
      'dump [redacted].',
    ],
    ['bytes in JSON', JSON.stringify(Buffer.from(KEY)), '{"type":"Buffer","data":[[redacted]]}'],
  ])('redacts a secret that is %s', (_, text, expected) => {
    const scrubber = scrubberOf(KEY)
    expect(scrubber.text(text)).toBe(expected)
    expect(scrubber.bytes(Buffer.from(text)).toString()).toBe(expected)
    expect(scrubber.has(text)).toBe(true)
  })

  it('redacts a secret in a base64 blob, whatever stands around it', () => {
    const scrubber = scrubberOf(KEY)
    for (let before = 0; before < 7; before++) {
      for (let after = 0; after < 4; after++) {
        const blob = Buffer.from(`${'u'.repeat(before)}${KEY}${'v'.repeat(after)}`)
        for (const encoding of ['base64', 'base64url'] as const) {
          const out = scrubber.text(`{"blob":"${blob.toString(encoding)}"}`)
          expect(out).toContain('[redacted]')
          expect(Buffer.from(out.replace('[redacted]', ''), 'base64').toString()).not.toContain(
            KEY.slice(0, 8),
          )
        }
      }
    }
  })

  it.each([
    ['percent', encodeURIComponent],
    ['lower-case percent', (s: string) => encodeURIComponent(s).replace(/%../g, (x) => x.toLowerCase())],
    [
      'RFC 3986',
      (s: string) =>
        encodeURIComponent(s).replace(/[!'()*]/g, (x) => `%${x.charCodeAt(0).toString(16).toUpperCase()}`),
    ],
    ['form', (s: string) => new URLSearchParams({ k: s }).toString().slice(2)],
    ['whole URL', encodeURI],
    ['percent, twice', (s: string) => encodeURIComponent(encodeURIComponent(s))],
    ['JSON', (s: string) => JSON.stringify(s)],
    ['JSON in JSON', (s: string) => JSON.stringify(JSON.stringify(s))],
    ['JSON with escaped slashes', (s: string) => JSON.stringify(s).replaceAll('/', '\\/')],
    ['JSON as Go writes it', (s: string) => JSON.stringify(s).replace(/[<>&]/g, toUnicode)],
    [
      'JSON as .NET writes it',
      (s: string) =>
        JSON.stringify(s)
          .replaceAll('\\"', '\\u0022')
          .replace(/[<>&'+]/g, toUnicode),
    ],
    ['HTML', (s: string) => s.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')],
  ])('redacts a secret with reserved characters in %s spelling', (_, encode) => {
    const secret = `p@ss /w+rd?&=#"q"'\\<t>~!*()`
    const encoded = encode(secret)
    const out = scrubberOf(secret).text(`<< ${encoded} >>`)
    expect(out).toContain('[redacted]')
    expect(out.length).toBeLessThan(24)
  })

  it('merges overlapping matches into one', () => {
    const scrubber = scrubberOf('abcdefghij', 'fghijklmno', 'cdefghijklm')
    expect(scrubber.text('<abcdefghijklmno>')).toBe('<[redacted]>')
    expect(scrubberOf('aaaaaaaa').text(`<${'a'.repeat(1000)}>`)).toBe('<[redacted]>')
  })

  it('finds a secret that begins inside another one', () => {
    expect(scrubberOf('abcabcabd', 'cabcabdx').text('abcabcabcabdx')).toBe('abc[redacted]')
  })

  it('leaves secrets under 8 characters alone', () => {
    expect(scrubberOf('short12').text('a short12 b')).toBe('a short12 b')
  })

  it('forgets what it is no longer told', () => {
    const scrubber = scrubberOf(KEY)
    scrubber.setSecrets(['another-secret'])
    expect(scrubber.text(`${KEY} another-secret`)).toBe(`${KEY} [redacted]`)
    scrubber.setSecrets([])
    expect(scrubber.text(`${KEY} another-secret`)).toBe(`${KEY} another-secret`)
  })

  it('gives back the same object when there is nothing to scrub', () => {
    const scrubber = scrubberOf(KEY)
    const bytes = Buffer.from('nothing here, żółw 🐢')
    expect(scrubber.bytes(bytes)).toBe(bytes)
    expect(scrubber.has(bytes)).toBe(false)
    expect(scrubber.text('lone \ud800 surrogate')).toBe('lone \ud800 surrogate')
  })

  it('keeps every other character of UTF-8 text', () => {
    expect(scrubberOf(KEY).text(`żółw ${KEY} 🐢`)).toBe('żółw [redacted] 🐢')
    expect(
      scrubberOf(KEY)
        .bytes(Buffer.from(`żółw ${KEY} 🐢`))
        .toString(),
    ).toBe('żółw [redacted] 🐢')
  })

  it('takes a thousand secrets', () => {
    const secrets = Array.from(
      { length: 1000 },
      (_, i) => `sk-fleet-${createHash('sha256').update(`${i}`).digest('base64url')}`,
    )
    const scrubber = createScrubber()
    const start = performance.now()
    scrubber.setSecrets(secrets)
    expect(performance.now() - start).toBeLessThan(3000)
    expect(scrubber.text(secrets.map((s) => `<${s}>`).join('\n'))).toBe(
      secrets.map(() => '<[redacted]>').join('\n'),
    )
  })

  it('takes a secret of 64 KiB', () => {
    const secret = createHash('shake256', { outputLength: 32 * 1024 })
      .update('x')
      .digest('hex')
    expect(scrubberOf(secret).text(`a ${secret} b`)).toBe('a [redacted] b')
  })
})

function toUnicode(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
}

describe('by pattern', () => {
  it.each([
    ['our bearer', `got sk-sluice-${WORD}${WORD}.`, 'got [redacted].'],
    ['a key prefix', `key sk-proj-${WORD}, next`, 'key [redacted], next'],
    ['a key after an escaped line feed', `"first\\nsk-${WORD}"`, '"first\\n[redacted]"'],
    ['a key after a percent escape', `a%20sk-${WORD}`, 'a%20[redacted]'],
    ['a browser key', `AIza${WORD}${WORD}`, '[redacted]'],
    ['Bearer', `sent Bearer ${WORD} twice`, 'sent Bearer [redacted] twice'],
    ['bearer in lower case', `bearer ${WORD}`, 'bearer [redacted]'],
    ['Basic', 'Basic dXNlcjpwYXNz', 'Basic [redacted]'],
    ['a header line', 'x-api-key: hunter2\r\nhost: a', 'x-api-key: [redacted]\r\nhost: a'],
    ['a header line with scheme', `Authorization: Bearer ${WORD}`, 'Authorization: Bearer [redacted]'],
    [
      'a digest header',
      'authorization: Digest username="m", response="66"',
      'authorization: Digest [redacted]',
    ],
    ['an unknown scheme', 'Authorization: q8Zk3xW', 'Authorization: [redacted]'],
    ['JSON', '{"Authorization":"Bearer x y"}', '{"Authorization":"[redacted]"}'],
    ['JSON with spaces', '{ "api-key" : "x" }', '{ "api-key" : "[redacted]" }'],
    ['an array in JSON', '{"authorization":["x"]}', '{"authorization":["[redacted]"]}'],
    [
      'JSON in JSON',
      JSON.stringify(JSON.stringify({ 'X-API-KEY': 'a"b\\c' })),
      '"{\\"X-API-KEY\\":\\"[redacted]\\"}"',
    ],
    ['raw headers', '["Host","a","X-Api-Key","q8Zk3xW"]', '["Host","a","X-Api-Key","[redacted]"]'],
    ['inspect', `{ 'x-goog-api-key': 'abc' }`, `{ 'x-goog-api-key': '[redacted]' }`],
    ['a Map', `Map(1) { 'authorization' => 'abc' }`, `Map(1) { 'authorization' => '[redacted]' }`],
    ['the first query field', 'https://a/b?key=x1&alt=sse', 'https://a/b?key=[redacted]&alt=sse'],
    ['a later query field', '/b?alt=sse&key=x1#top', '/b?alt=sse&key=[redacted]#top'],
    ['api_key=', 'a=1&api_key=x1y2&b=2', 'a=1&api_key=[redacted]&b=2'],
    [
      'an environment',
      'OPENAI_API_KEY=q8Zk3xW ANTHROPIC_API_KEY_2=q8Zk3xW',
      'OPENAI_API_KEY=[redacted] ANTHROPIC_API_KEY_2=[redacted]',
    ],
    [
      'a printed Buffer',
      '<Buffer 73 6b 2d 61 6e 74 2d 61 70 ... 12 more bytes>',
      '<Buffer [redacted]... 12 more bytes>',
    ],
  ])('redacts %s', (_, text, expected) => {
    const scrubber = createScrubber()
    expect(scrubber.text(text)).toBe(expected)
    expect(scrubber.bytes(Buffer.from(text)).toString()).toBe(expected)
    expect(scrubber.text(expected)).toBe(expected)
  })

  it.each([
    '{"level":30,"time":1763724744123,"requestId":"req_0192f3a4b5c6d7e8f9a0","agent":"data-analyzer","route":"claude-opus-4-5-thinking","attempts":"sovereign:anthropic/claude-opus-4-5=429, execution:local/gpt-oss-120b=200","status":200,"code":"ok","msg":"request completed"}\n',
    'task-force-alpha-investigates-everything and risk-assessment-of-the-quarter, disk-usage-monitoring-daemon',
    'The desk-mounted-monitor-arms-catalogue was kept.',
    'a basic functionality test; Basic authentication is not supported, Basic Authorization neither',
    'bearer ci-runner-01 of agent nightly-report was revoked; bearer authentication-required',
    'Bearer <token> or Bearer TokenExpiredError: no bearer was presented',
    'authorization: denied by policy, authorization: required',
    '{"code":"invalid_api_key","message":"Incorrect","type":"invalid_request_error"}',
    'invalid_api_key: no bearer; model_not_found: no route',
    'apiKey: ["env:ANTHROPIC_API_KEY", "env:ANTHROPIC_API_KEY_2"], token: "env:SLUICE_ADMIN_TOKEN"',
    'google: { apiKey: "file:/etc/sluice/secrets/gemini" } OPENAI_API_KEY is not set',
    '["accept","authorization","content-type"]',
    'sluice_requests_total{agent="a",route="auto",code="invalid_api_key"} 12',
    'set the key=value pair; monkey=business',
    'Error: connect ECONNREFUSED 127.0.0.1:8080\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1637:16)',
    'żółw 🐢 — “quotes” and ellipses…',
  ])('leaves ordinary text alone: %s', (text) => {
    const scrubber = createScrubber({ isBearerDigest: () => false })
    expect(scrubber.text(text)).toBe(text)
    const bytes = Buffer.from(text)
    expect(scrubber.bytes(bytes)).toBe(bytes)
  })

  it.each([
    ['sk- over and over', 'sk-'],
    ['half keys', 'sk-abcdefghijklm '],
    ['AIza over and over', 'AIza'],
    ['Bearer over and over', 'Bearer '],
    ['names', 'authorization:'],
    ['quoted names', '"authorization":"'],
    ['references', '"apikey":"env:A'],
    ['references in three quotes', `apikey:"env:A apikey:'env:A apikey:\`env:A `],
    ['plain words after names', 'api-key:a-b-c-d-'],
    ['escapes', '\\\\\\"api-key\\\\\\":\\\\\\"\\\\'],
    ['backslashes', '\\'],
    ['quotes', '"'],
    ['spaces after a scheme', 'basic                '],
    ['queries', '?key=&key='],
    ['buffers', '<Buffer 00 '],
    ['one long word', 'a'],
    ['slashes and equals', 'abcdefghijklmnopq/='],
  ])('is linear on a megabyte of %s', (_, piece) => {
    const scrubber = createScrubber({ isBearerDigest: () => false })
    scrubber.setSecrets([KEY, 'a'.repeat(64), `${'a'.repeat(63)}b`, '\\'.repeat(40)])
    const text = piece.repeat(Math.ceil(2 ** 20 / piece.length))
    const start = performance.now()
    scrubber.text(text)
    const stream = scrubber.stream()
    for (let i = 0; i < text.length; i += 4096) stream.push(Buffer.from(text.slice(i, i + 4096)))
    stream.flush()
    expect(performance.now() - start).toBeLessThan(1500)
  })
})

describe('by digest', () => {
  const bearer = 'fleet.agent_7~Zx+81/Qw-55=='
  const digest = createHash('sha256').update(bearer).digest('hex')
  const scrubber = createScrubber({ isBearerDigest: (hex) => hex === digest })

  it.each([
    ['alone', bearer, '[redacted]'],
    ['in a JSON string', `{"msg":"${bearer}"}`, '{"msg":"[redacted]"}'],
    ['after a colon', `bearer:${bearer},`, 'bearer:[redacted],'],
    ['after an escaped line feed', `a\\n${bearer}`, 'a\\n[redacted]'],
    ['after a percent escape', `a%20${bearer}`, 'a%20[redacted]'],
  ])('redacts a bearer whose value nobody told: %s', (_, text, expected) => {
    expect(scrubber.text(text)).toBe(expected)
    expect(scrubber.bytes(Buffer.from(text)).toString()).toBe(expected)
  })

  it('finds a bearer between the separators of a URL or at the end of a sentence', () => {
    const simple = '0f1e2d3c4b5a69788796a5b4c3d2e1f0'
    const hex = createHash('sha256').update(simple).digest('hex')
    const other = createScrubber({ isBearerDigest: (candidate) => candidate === hex })
    expect(other.text(`/v1/${simple}/x?bearer=${simple}`)).toBe('/v1/[redacted]/x?bearer=[redacted]')
    expect(other.text(`It was ${simple}.`)).toBe('It was [redacted].')
  })

  it('does not look up request ids and numbers', () => {
    const asked: string[] = []
    const counting = createScrubber({ isBearerDigest: (hex) => asked.push(hex) < 0 })
    counting.text('{"id":"req_0192f3a4b5c6d7e8f9a0","n":12345678901234567890,"status":200}')
    expect(asked).toEqual([])
  })
})

describe('a stream', () => {
  it('holds back what may become a secret, and nothing else', () => {
    const stream = scrubberOf(KEY).stream()
    expect(stream.push(Buffer.from(`text ${KEY.slice(0, 5)}`)).toString()).toBe('text ')
    expect(stream.push(Buffer.from(KEY.slice(5))).toString()).toBe('[redacted]')
    expect(stream.push(Buffer.from('progress 45!')).toString()).toBe('progress 45!')
  })

  it('lets go of what did not become one', () => {
    const stream = scrubberOf(KEY).stream()
    expect(stream.push(Buffer.from(`(${KEY.slice(0, 10)}`)).toString()).toBe('(')
    expect(stream.push(Buffer.from('?')).toString()).toBe(`${KEY.slice(0, 10)}?`)
  })

  it('redacts a held fragment of 8 characters at the exit and shows a shorter one', () => {
    for (const [length, shown] of [
      [7, KEY.slice(0, 7)],
      [8, '[redacted]'],
      [KEY.length - 1, '[redacted]'],
    ] as const) {
      const stream = scrubberOf(KEY).stream()
      stream.push(Buffer.from(KEY.slice(0, length)))
      expect(stream.flush().toString()).toBe(shown)
      expect(stream.flush().toString()).toBe('')
    }
  })

  it('stays safe when more follows a flush', () => {
    for (let at = 1; at < KEY.length; at++) {
      const stream = scrubberOf(KEY).stream()
      const out = [
        stream.push(Buffer.from(KEY.slice(0, at))),
        stream.flush(),
        stream.push(Buffer.from(`${KEY.slice(at)}.`)),
      ]
      expect(Buffer.concat(out).toString()).toBe(at < 8 ? `${KEY.slice(0, at)}[redacted].` : '[redacted].')
    }
  })

  it('holds an unfinished pattern until its line ends', () => {
    const stream = createScrubber().stream()
    expect(stream.push(Buffer.from('x Authorization: Bea')).toString()).toBe('x ')
    expect(stream.push(Buffer.from('rer abc123def')).toString()).toBe('')
    expect(stream.push(Buffer.from('456\nnext')).toString()).toBe('Authorization: Bearer [redacted]\nnext')
  })

  it('holds no more than 4 KiB of a pattern and redacts the rest of it as it comes', () => {
    const stream = createScrubber().stream()
    let out = stream.push(Buffer.from('{"api-key":"')).toString()
    for (let i = 0; i < 100; i++) out += stream.push(Buffer.from('v4lue\\"'.repeat(100))).toString()
    expect(out).toBe('{"api-key":"[redacted]')
    expect(stream.push(Buffer.from('end","next":1}')).toString()).toBe('","next":1}')
  })

  it('remembers what stood before a chunk', () => {
    const stream = createScrubber().stream()
    const out = ['ta', 'sk-force-with-a-very-long-name\n'].map((piece) =>
      stream.push(Buffer.from(piece)).toString(),
    )
    expect(out.join('')).toBe('task-force-with-a-very-long-name\n')
  })

  it('does not part a character', () => {
    const stream = createScrubber().stream()
    const bytes = Buffer.from('🐢!')
    const out = [...bytes].map((byte) => stream.push(Buffer.from([byte])).toString())
    expect(out).toEqual(['', '', '', '🐢', '!'])
  })

  it('follows new secrets while it runs', () => {
    const scrubber = scrubberOf(KEY)
    const stream = scrubber.stream()
    stream.push(Buffer.from('a '))
    scrubber.setSecrets(['fresh-secret-1'])
    expect(stream.push(Buffer.from('fresh-secret-1\n')).toString()).toBe('[redacted]\n')
  })
})
