import { describe, expect, it } from 'vitest'
import { ENDPOINTS, findEndpoint, toRoutePath } from '../../../src/http/operations.ts'

describe('toRoutePath', () => {
  it.each([
    ['/v1/chat/completions', '/chat/completions'],
    ['/chat/completions', '/chat/completions'],
    ['/v1/v1/chat/completions', '/chat/completions'],
    ['/v1/chat/completions/', '/chat/completions'],
    ['/v1/chat/completions///', '/chat/completions'],
    ['/v1/chat/completions?x=1&y', '/chat/completions'],
    ['/v1/chat/completions/?x=/v1/', '/chat/completions'],
    ['/v1', '/'],
    ['/v1/', '/'],
    ['/v1?x', '/'],
    ['/', '/'],
    ['///', '/'],
  ])('reads %s as %s', (target, path) => {
    expect(toRoutePath(target)).toBe(path)
  })

  it.each([
    '/v1/v1/v1/chat/completions',
    '//v1/chat/completions',
    '/v1//chat/completions',
    '/v1/chat//completions',
    '/v1%2fchat/completions',
    '/v1/chat%2fcompletions',
    '/v1/chat%2Fcompletions',
    '/%76%31/chat/completions',
    '/V1/chat/completions',
    '/v1/Chat/completions',
    '/v1/chat/completions;x=1',
    '/v1/chat/completions%00',
    '/v1/chat/completions.json',
    '/v1/x/../chat/completions',
    '/v1/./chat/completions',
    '/v2/chat/completions',
    '/v1x/chat/completions',
    '/xv1/chat/completions',
    '/v1\\chat\\completions',
    '/v1/chat/completions#x',
  ])('finds no model endpoint at %s', (target) => {
    expect(findEndpoint(toRoutePath(target))).toBeUndefined()
  })

  it('finds every endpoint with and without its version', () => {
    for (const endpoint of ENDPOINTS) {
      for (const prefix of ['', '/v1', '/v1/v1']) {
        expect(findEndpoint(toRoutePath(`${prefix}${endpoint.path}`))).toBe(endpoint)
      }
    }
  })

  it('is bounded on a target of nothing but slashes', () => {
    const startedMs = performance.now()
    expect(toRoutePath('/'.repeat(16_384))).toBe('/')
    expect(performance.now() - startedMs).toBeLessThan(500)
  })
})
