// The http room as the gateway uses it: from an arrival to a request that can be judged. Made anew with each Snapshot.

import type { Snapshot } from '../config/snapshot.ts'
import { GatewayError } from '../errors.ts'
import type { Arrival, ModelRequest } from '../types.ts'
import { ENDPOINTS, findEndpoint, toRoutePath } from './operations.ts'
import { readImagined, readRequest } from './request.ts'

export interface Http {
  /**
   * The whole body. @throws GatewayError overloaded, request_too_large, unsupported_media_type,
   * request_timeout, client_closed
   */
  readBody(arrival: Arrival): Promise<Buffer>
  /** What is asked of which model. @throws GatewayError invalid_json, ambiguous_field, invalid_request */
  readRequest(arrival: Arrival, body: Buffer): ModelRequest
  /**
   * The same of a body, as JSON, that nobody sent: by its operation, whose first endpoint is meant, or by the path of an
   * endpoint. @throws GatewayError invalid_json, ambiguous_field, invalid_request
   */
  imagine(operation: string, body: Buffer): ModelRequest
}

export function createHttp({ snapshot }: { snapshot: Snapshot }): Http {
  const bounds = { maxBytes: snapshot.listen.maxBodyBytes, budgetBytes: snapshot.listen.bodyBudgetBytes }
  const allowFields = new Set<string>()
  for (const provider of snapshot.providers.values()) {
    for (const field of provider.allowFields) allowFields.add(field)
  }
  return {
    readBody: (arrival) => arrival.body.read(bounds),
    imagine(operation, body) {
      const endpoint =
        ENDPOINTS.find((one) => one.operation === operation) ?? findEndpoint(toRoutePath(operation))
      if (endpoint === undefined)
        throw new GatewayError('invalid_request', 'There is no such operation here.', { param: 'operation' })
      return readImagined(endpoint, body, allowFields)
    },
    readRequest(arrival, body) {
      if (Number.isNaN(arrival.timeoutMs)) {
        throw new GatewayError(
          'invalid_request',
          'x-sluice-timeout-ms must be a whole number of milliseconds from 1 to 99999999.',
        )
      }
      return readRequest(arrival.endpoint, body, allowFields, arrival)
    },
  }
}
