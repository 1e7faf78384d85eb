// The table of errors for the documentation, generated from the one place that renders them.

import { ERRORS, type ErrorCode } from '../errors.ts'
import { ERROR_SHAPES } from './error-body.ts'

/** Codes that never reach a caller as a status of their own. */
const UNSEEN: ReadonlySet<ErrorCode> = new Set(['client_closed', 'upstream_incomplete'])

/** Markdown: status, code, type, whether to retry, when. Ordered by status. */
export function errorTable(): string {
  const codes = Object.keys(ERRORS) as ErrorCode[]
  const rows = codes
    .map((code) => ({ code, ...ERROR_SHAPES[code] }))
    .sort((a, b) => a.status - b.status)
    .map(({ code, status, type, retry }) => {
      const shown = UNSEEN.has(code) ? '–' : String(status)
      return `| ${shown} | \`${code}\` | \`${type}\` | ${retry} | ${ERRORS[code]} |`
    })
  return ['| status | code | type | `x-should-retry` | when |', '|---|---|---|---|---|', ...rows].join('\n')
}
