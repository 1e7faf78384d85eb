import { expect, test } from 'vitest'
import { isObject, parseObject, parseObjectToWrite } from '../../../src/bytes/json-value.ts'

test('of all that JSON can say only an object has members', () => {
  const said = ['{}', '{"length":0}', '{"__proto__":null}', '[]', '[{}]', 'null', '1', '"{}"', 'true']
  expect(said.filter((text) => isObject(JSON.parse(text)))).toEqual(said.slice(0, 3))
  expect(isObject(undefined)).toBe(false)
})

test('a whole number of many digits is written as it was, and everything else as ever', () => {
  const long = '{"id":12345678901234567890,"list":[-9007199254740993,{"a":1}],"text":"12345678901234567890"}'
  expect(JSON.stringify(parseObjectToWrite(long))).toBe(long)
  for (const text of ['{"a":0.12345678901234567890,"b":1}', '{"a":9007199254740991}', '{"a":[1]}'])
    expect(parseObjectToWrite(text)).toEqual(JSON.parse(text))
  for (const text of ['[12345678901234567890]', '12345678901234567890', '{"a":12345678901234567890', ''])
    expect(parseObjectToWrite(text)).toBe(parseObject(text))
})
