// Members that are taken out of a body, or make room for another, wherever they stand and however they are written.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { splice } from '../../../src/bytes/splice.ts'
import { createEdits, type Edits } from '../../../src/formats/edits.ts'
import { toModelRequest } from '../../support/model-request.ts'

function edited(text: string, edit: (edits: Edits) => void): string {
  const request = toModelRequest(text, 'anthropic')
  const edits = createEdits(request)
  edit(edits)
  const { body } = splice(request.body ?? Buffer.alloc(0), edits.list)
  if (!Buffer.isBuffer(body)) throw new Error('the body is too large for this')
  return body.toString()
}

/** An object with `model` somewhere in it, written with space in all places that have room for it. */
const bodies = fc
  .tuple(
    fc.dictionary(
      // A name with escapes in it has been refused by then.
      fc.stringMatching(/^[\w:, {}]*$/).filter((name) => name !== 'model' && name !== '__proto__'),
      fc.jsonValue(),
      { minKeys: 1, maxKeys: 4 },
    ),
    fc.string(),
    fc.nat(),
    fc.array(fc.constantFrom('', ' ', '\n', '\t ', '\r\n'), { minLength: 4, maxLength: 4 }),
  )
  .map(([others, model, at, [a = '', b = '', c = '', d = '']]) => {
    const members = Object.entries(others).map(([key, value]) => [JSON.stringify(key), JSON.stringify(value)])
    members.splice(at % (members.length + 1), 0, ['"model"', JSON.stringify(model)])
    const text = members.map(([key, value]) => `${a}${key}${b}:${c}${value}${d}`).join(',')
    return { text: `{${text}}`, others }
  })

describe('a member', () => {
  it('that is taken out leaves the others as they are', () => {
    fc.assert(
      fc.property(bodies, ({ text, others }) => {
        expect(JSON.parse(edited(text, (edits) => edits.remove('model')))).toEqual(
          JSON.parse(JSON.stringify(others)),
        )
      }),
    )
  })

  it('that makes room for another leaves the others as they are', () => {
    fc.assert(
      fc.property(bodies, ({ text, others }) => {
        const after = edited(text, (edits) => edits.rename('model', 'a new one', '1'))
        expect(JSON.parse(after)).toEqual({ ...JSON.parse(JSON.stringify(others)), 'a new one': 1 })
      }),
    )
  })

  it('that is not there changes nothing', () => {
    const text = '{"a": 1}'
    expect(edited(text, (edits) => edits.remove('model'))).toBe(text)
    expect(edited(text, (edits) => edits.rename('model', 'b', '1'))).toBe(text)
  })
})
