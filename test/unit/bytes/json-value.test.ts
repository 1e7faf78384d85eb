import { expect, test } from 'vitest'
import { isObject, parseExactObject, parseObject } from '../../../src/bytes/json-value.ts'

test('of all that JSON can say only an object has members', () => {
  const said = ['{}', '{"length":0}', '{"__proto__":null}', '[]', '[{}]', 'null', '1', '"{}"', 'true']
  expect(said.filter((text) => isObject(JSON.parse(text)))).toEqual(said.slice(0, 3))
  expect(isObject(undefined)).toBe(false)
})

test('a number that JavaScript cannot hold is written as it was, and everything else as ever', () => {
  for (const text of [
    '{"id":12345678901234567890,"list":[-9007199254740993,{"a":1}],"text":"12345678901234567890"}',
    '{"a":0.12345678901234567890,"b":1}',
    '{"a":1e400,"b":-1E+999}',
  ])
    expect(JSON.stringify(parseExactObject(text))).toBe(text)
  for (const text of ['{"a":9007199254740991}', '{"a":[1.5,1e3]}', '{"a":1e100,"b":"1e400"}'])
    expect(parseExactObject(text)).toEqual(JSON.parse(text))
  for (const text of ['[12345678901234567890]', '12345678901234567890', '{"a":12345678901234567890', ''])
    expect(parseExactObject(text)).toBe(parseObject(text))
})
