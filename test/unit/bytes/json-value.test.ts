import { expect, test } from 'vitest'
import { isObject } from '../../../src/bytes/json-value.ts'

test('of all that JSON can say only an object has members', () => {
  const said = ['{}', '{"length":0}', '{"__proto__":null}', '[]', '[{}]', 'null', '1', '"{}"', 'true']
  expect(said.filter((text) => isObject(JSON.parse(text)))).toEqual(said.slice(0, 3))
  expect(isObject(undefined)).toBe(false)
})
