// What several rooms must know of limits.

import type { Limits } from '../types.ts'

/** Whether anything is limited at all; a subject without limits costs no look-up. */
export function hasLimits({ requests, tokens, concurrency, budget }: Limits): boolean {
  return requests !== undefined || tokens !== undefined || concurrency !== undefined || budget !== undefined
}

/** Whether some of these limit money: then nothing may be called whose price is not known. */
export function limitsMoney(...some: readonly (Limits | undefined)[]): boolean {
  return some.some((limits) => limits?.budget !== undefined)
}

/** What an image is counted as before the provider has counted it: about what a large one costs at most vendors. */
export const IMAGE_TOKENS = 1500
