// How AWS says that something went wrong: the type of an exception in a header, in the body, or in a frame of a stream,
// beside `{ message }`. Pure. Source: the Converse reference's list of errors, AWS's list of errors that all services have.

import { isObject, parseObject } from '../bytes/json-value.ts'
import type { Fault, HeaderLookup } from './format.ts'
import { faults } from './openai-faults.ts'

/** Statuses of exceptions that come inside a stream. */
const STATUSES: ReadonlyMap<string, number> = new Map([
  ['validation', 400],
  ['accessdenied', 403],
  ['resourcenotfound', 404],
  ['modeltimeout', 408],
  ['modelstreamerror', 424],
  ['modelerror', 424],
  ['throttling', 429],
  ['modelnotready', 429],
  ['servicequotaexceeded', 400],
  ['internalserver', 500],
  ['serviceunavailable', 503],
])

/** Of the credential itself: it will not do for anybody. */
const KEY_TYPES =
  /^(?:unrecognizedclient|expiredtoken|invalidsignature|incompletesignature|signaturedoesnotmatch|missingauthenticationtoken|invalidclienttokenid|invalidtoken|notauthorized|optinrequired)/
const KEY_PHRASES = /security token|bearer token|api key|signature|credentials|not authorized|explicit deny/i
/** About one model: the credential is good for others. */
const MODEL_PHRASES = /access to the model|model access|marketplace|inference profile/i
/** A 400 that says that this deployment is set up wrongly, which is nothing that the caller did. */
const SETUP_PHRASES =
  /model identifier is invalid|on-demand throughput isn.t supported|model is not supported|end of its life|is not available in/i
const SPENT_PHRASES = /per day|daily/i
/** Days are not the calendar's there: nobody says when one is over. */
const SPENT_MS = 3_600_000

export function faultOfBedrock(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  return toFault(faults.fault(status, header, body, nowMs), {
    status,
    type: header('x-amzn-errortype') ?? typeIn(body),
  })
}

/** `text` is the event of an exception, as the splitter writes it, or a body. */
export function inBandOfBedrock(text: string): { readonly status: number; readonly fault: Fault } {
  const outer = parseObject(text)
  const error = isObject(outer?.error) ? outer.error : {}
  const type = typeof error.type === 'string' ? error.type : typeIn(text)
  const status = STATUSES.get(plain(type ?? '')) ?? 500
  return {
    status,
    fault: toFault(
      faults.fault(status, () => undefined, text, 0),
      { status, type },
    ),
  }
}

function toFault(
  fault: Fault,
  { status, type }: { readonly status: number; readonly type: string | undefined },
): Fault {
  const name = plain(type ?? '')
  const told: Fault = { ...fault, type: shownType(type) ?? fault.type }
  const { message } = fault
  const isModel = MODEL_PHRASES.test(message)
  if (KEY_TYPES.test(name) && !isModel) return { ...told, verdict: 'retry', key: true, park: true }
  if (status === 403) {
    const key = !isModel
    return { ...told, verdict: 'retry', key, park: key && KEY_PHRASES.test(message) }
  }
  // The account has no room for it; another one may.
  if (name === 'servicequotaexceeded') return { ...told, verdict: 'retry', key: true, park: false }
  if (status === 429 && SPENT_PHRASES.test(message))
    return { ...told, retryAfterMs: told.retryAfterMs ?? SPENT_MS }
  if (status === 400 && SETUP_PHRASES.test(message)) return { ...told, verdict: 'retry' }
  return told
}

/** `com.amazon.coral.service#AccessDeniedException` in the body, where no header tells. */
function typeIn(body: string): string | undefined {
  const type = parseObject(body)?.__type
  return typeof type === 'string' ? type : undefined
}

/** `ThrottlingException:http://internal.amazon.com/…`, `throttlingException`: one name, in small letters. */
function plain(type: string): string {
  return (shownType(type) ?? '').toLowerCase().replace(/exception$/, '')
}

function shownType(type: string | undefined): string | undefined {
  return type?.split('#').at(-1)?.split(':')[0]?.trim()
}
