// How deployments stand and what they cost, as plain values for an operator. Pure.

import type { Snapshot } from '../config/snapshot.ts'
import type { Deployment } from '../types.ts'
import type { Health } from './health.ts'

/** What is known of the health of one deployment. */
export type DeploymentState = ReturnType<Health['view']>[number]

/** Every deployment of a configuration that can fail: one that nobody has called yet is available. */
export function deploymentStates(
  snapshot: Pick<Snapshot, 'deployments'> | undefined,
  health: Pick<Health, 'view'>,
): DeploymentState[] {
  const known = new Map(health.view().map((one) => [one.deployment, one]))
  return [...(snapshot?.deployments.values() ?? [])]
    .filter(({ kind }) => kind !== 'reply')
    .map(({ name }) => known.get(name) ?? { deployment: name, state: 'available', reason: '', holdMs: 0 })
}

/**
 * The worst that anybody says of each deployment. Each worker has breakers of its own: a provider that asks to be left
 * alone is left alone by the worker it told.
 */
export function worstOf(
  known: readonly DeploymentState[],
  told: readonly DeploymentState[],
): DeploymentState[] {
  return known.map((own) =>
    told
      .filter(({ deployment }) => deployment === own.deployment)
      .reduce((worst, one) => (one.state === 'unavailable' && one.holdMs >= worst.holdMs ? one : worst), own),
  )
}

/** US dollars per million tokens; one that the caller names has the price of the name. */
export function toPriceShown(deployment: Deployment | undefined) {
  if (deployment?.price !== undefined) {
    const { input, cached, output } = deployment.price
    return { input, cached, output }
  }
  return deployment === undefined || deployment.listPrices.length === 0 ? 'unpriced' : 'by model'
}
