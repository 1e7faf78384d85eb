// Azure OpenAI: OpenAI's wire format at another path, with another credential. The base URL is the resource's
// (`https://name.openai.azure.com`); a model is the name of a deployment. With `apiVersion` the dated API is asked, which
// has the deployment in its path; without it the one that has no dates.
// Source: Azure OpenAI's reference, and its page on API versions.

import type { Fault, Format, HeaderLookup, ProviderSide, Resuming } from './format.ts'
import { openai } from './openai.ts'
import { faults } from './openai-faults.ts'
import { toSegment } from './segment.ts'

const { provider } = openai
/** The API without dates. */
const UNDATED = '/openai/v1'

export const azure: Format & { readonly provider: ProviderSide & { readonly resume: Resuming } } = {
  name: 'azure',
  bytesOf: 'openai',
  provider: {
    ...provider,
    path(operation, asked) {
      const { apiVersion } = asked.options
      const path = provider.path(operation, asked)
      return apiVersion === undefined
        ? `${UNDATED}${path}`
        : `/openai/deployments/${toSegment(asked.model)}${path}?api-version=${encodeURIComponent(apiVersion)}`
    },
    prefix: UNDATED,
    // A token of Entra ID is a JWT.
    credential: (key) => (JWT.test(key) ? ['authorization', `Bearer ${key}`] : ['api-key', key]),
    fault: faultOfAzure,
  },
}

const JWT = /^eyJ[\w-]+\.[\w-]+\.[\w-]+$/
/** Where no header names the wait: `Please retry after 26 seconds.` */
const WAIT = /retry after (\d{1,6}) (milli)?seconds?/i

function faultOfAzure(status: number, header: HeaderLookup, body: string, nowMs: number): Fault {
  const fault = faults.fault(status, header, body, nowMs)
  if (status !== 429 || fault.retryAfterMs !== undefined) return fault
  const [, amount, milli] = WAIT.exec(fault.message) ?? []
  return amount === undefined
    ? fault
    : { ...fault, retryAfterMs: Number(amount) * (milli === undefined ? 1000 : 1) }
}
