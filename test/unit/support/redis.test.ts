// The Redis of the tests: what later tests rely on when they kill it or stop it.

import { afterEach, expect, inject, test } from 'vitest'
import { parseResp, startRedis, type TestRedis } from '../../support/redis.ts'

const started: TestRedis[] = []
afterEach(async () => {
  for (const redis of started.splice(0)) await redis.stop()
})
const start = async (port?: number): Promise<TestRedis> => {
  const redis = await startRedis(port === undefined ? {} : { port })
  started.push(redis)
  return redis
}

test('the global setup provides a binary', () => {
  expect(inject('redis').path).toContain('redis-server')
})

test('answers commands, nested replies and errors', async () => {
  const redis = await start()
  expect(await redis.command('SET', 'key', 'Grüße')).toBe('OK')
  expect(await redis.command('GET', 'key')).toBe('Grüße')
  expect(await redis.command('EVAL', "return {1, {'a', false}, 'b'}", 0)).toEqual([1, ['a', null], 'b'])
  await expect(redis.command('NOPE')).rejects.toThrow('unknown command')
  const many = await Promise.all(Array.from({ length: 50 }, () => redis.command('INCR', 'n')))
  expect(many.at(-1)).toBe(50)
})

test('keeps nothing over a kill and starts again on the same port', async () => {
  const first = await start()
  await first.command('SET', 'key', 'v')
  await first.kill9()
  await expect(first.command('PING')).rejects.toThrow()
  const second = await start(first.port)
  expect(await second.command('GET', 'key')).toBe(null)
})

test('answers nothing while it is paused, and everything afterwards', async () => {
  const redis = await start()
  redis.pause()
  const asked = redis.command('PING')
  const early = await Promise.race([asked, new Promise((resolve) => setTimeout(resolve, 100, 'silence'))])
  expect(early).toBe('silence')
  redis.resume()
  expect(await asked).toBe('PONG')
})

test('stops also when it is paused', async () => {
  const redis = await start()
  redis.pause()
  await redis.stop()
  expect(() => process.kill(redis.pid, 0)).toThrow('ESRCH')
})

test('reads a reply only when it is complete', () => {
  const reply = Buffer.from('*2\r\n$3\r\nabc\r\n:7\r\n')
  for (let length = 0; length < reply.length; length++) {
    expect(parseResp(reply.subarray(0, length), 0)).toBe(undefined)
  }
  expect(parseResp(reply, 0)).toEqual({ value: ['abc', 7], end: reply.length })
})
