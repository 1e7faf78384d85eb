// Images and files by an address that may hold the bytes themselves.

import { describe, expect, it } from 'vitest'
import { anthropic } from '../../../src/formats/anthropic.ts'
import { toSource } from '../../../src/formats/sources.ts'

describe('the media type of an image', () => {
  it.each([
    ['image/png', 'image/png'],
    ['IMAGE/PNG', 'image/png'],
    ['image/jpg', 'image/jpeg'],
    ['image/jpg;charset=utf-8', 'image/jpeg'],
  ])('is for %s the one that vendors know', (told, mediaType) => {
    expect(toSource(`data:${told};base64,AA==`)).toEqual({ kind: 'base64', mediaType, base64: 'AA==' })
  })

  it('is the same where Messages names it', () => {
    const image = { type: 'image', source: { type: 'base64', media_type: 'image/jpg', data: 'AA==' } }
    const { request } = anthropic.client.chat.read({
      max_tokens: 9,
      messages: [{ role: 'user', content: [image] }],
    })
    expect(request.messages[0]?.content).toMatchObject([{ source: { mediaType: 'image/jpeg' } }])
  })
})
