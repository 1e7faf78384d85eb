// Members of a request body that must be of some type: read, or refused by their name.

import { isObject } from '../bytes/json-value.ts'
import { GatewayError } from '../errors.ts'

/** `invalid_request` that names the member at fault. */
export function refuse(param: string, message: string): GatewayError {
  return new GatewayError('invalid_request', message, { param })
}

export function wrongType(param: string, wanted: string): GatewayError {
  return refuse(param, `The field "${param}" must be ${wanted}.`)
}

/** These give undefined for what is absent or null. @throws GatewayError `invalid_request` */
export function textAt(value: unknown, param: string): string | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string') throw wrongType(param, 'text')
  return value
}

export function numberAt(value: unknown, param: string): number | undefined {
  if (value === undefined || value === null) return undefined
  // What is too large for a number is infinite here, and would be sent as null.
  if (typeof value !== 'number' || !Number.isFinite(value)) throw wrongType(param, 'a number')
  return value
}

export function countAt(value: unknown, param: string): number | undefined {
  const number = numberAt(value, param)
  if (number !== undefined && !(Number.isInteger(number) && number >= 0))
    throw wrongType(param, 'a whole number')
  return number
}

export function flagAt(value: unknown, param: string): boolean | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'boolean') throw wrongType(param, 'true or false')
  return value
}

export function objectAt(value: unknown, param: string): Readonly<Record<string, unknown>> | undefined {
  if (value === undefined || value === null) return undefined
  if (!isObject(value)) throw wrongType(param, 'an object')
  return value
}

export function listAt(value: unknown, param: string): readonly unknown[] | undefined {
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value)) throw wrongType(param, 'a list')
  return value
}

/** Of a name that a caller made up. */
const LONGEST_SHOWN = 64

/** Values that are all text. */
export function textsAt(value: unknown, param: string): Readonly<Record<string, string>> | undefined {
  const object = objectAt(value, param)
  if (object === undefined) return undefined
  const texts = Object.entries(object).map(([name, text]) => {
    if (typeof text !== 'string') throw wrongType(`${param}.${name.slice(0, LONGEST_SHOWN)}`, 'text')
    return [name, text] as const
  })
  return Object.fromEntries(texts)
}

/** @throws GatewayError also where it is absent */
export function mustBe<T>(value: T | undefined, param: string): T {
  if (value === undefined) throw refuse(param, `The field "${param}" is missing.`)
  return value
}
