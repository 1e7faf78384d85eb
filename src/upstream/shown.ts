// How deployments stand and what they cost, as plain values for an operator. Pure.

import type { Snapshot } from '../config/snapshot.ts'
import type { Deployment } from '../types.ts'
import type { Health, HealthShown, State } from './health.ts'

/** What is known of the health of one deployment. */
export type DeploymentState = Omit<HealthShown, 'sinceMs'> & {
  /** Unix ms; undefined of one that nobody has called yet. */
  readonly sinceMs: number | undefined
}

/** Every deployment of a configuration that can fail: one that nobody has called yet is available. */
export function deploymentStates(
  snapshot: Pick<Snapshot, 'deployments'> | undefined,
  health: Pick<Health, 'view'>,
): DeploymentState[] {
  const known = new Map(health.view().map((one) => [one.deployment, one]))
  return [...(snapshot?.deployments.values() ?? [])]
    .filter(({ kind }) => kind !== 'reply')
    .map(({ name }) => known.get(name) ?? { deployment: name, ...UNTOUCHED })
}

const UNTOUCHED = {
  state: 'available',
  reason: '',
  sinceMs: undefined,
  holdMs: 0,
  phase: 'open',
  share: 1,
} as const

const SEVERITY: Readonly<Record<State, number>> = { available: 0, low_quota: 1, slow: 2, unavailable: 3 }

/** The worst that anybody says of each deployment: workers tell each other, but not every step of the way back. */
export function worstOf(
  known: readonly DeploymentState[],
  told: readonly DeploymentState[],
): DeploymentState[] {
  return known.map((own) => {
    const same = told.filter(({ deployment }) => deployment === own.deployment)
    const worst = same.reduce((worse, one) => (isWorse(one, worse) ? one : worse), own)
    const models = new Map(same.flatMap((one) => one.models ?? []).map((one) => [one.model, one]))
    return models.size === 0 ? worst : { ...worst, models: [...models.values()] }
  })
}

function isWorse(one: DeploymentState, than: DeploymentState): boolean {
  const by = SEVERITY[one.state] - SEVERITY[than.state]
  return by > 0 || (by === 0 && one.sinceMs !== undefined && one.holdMs >= than.holdMs)
}

/** Who stands where: the tiers of each route, and the deployments of each tier that a route names. */
export function toOrder({ routes }: Pick<Snapshot, 'routes'>) {
  const tiers = new Map([...routes.values()].flatMap((route) => route.tiers.map((tier) => [tier.name, tier])))
  return {
    routes: [...routes.values()].map(({ name, tiers: through }) => ({
      route: name,
      tiers: through.map((tier) => tier.name),
    })),
    tiers: [...tiers.values()].map(({ name, deployments, balance }) => ({
      tier: name,
      balance,
      deployments: deployments.map((one) => ({
        deployment: one.name,
        isReply: one.kind === 'reply',
        weight: one.weight,
      })),
    })),
  }
}

/** US dollars per million tokens; one that the caller names has the price of the name. */
export function toPriceShown(deployment: Deployment | undefined) {
  if (deployment?.price !== undefined) {
    const { input, cached, output } = deployment.price
    return { input, cached, output }
  }
  return deployment === undefined || deployment.listPrices.length === 0 ? 'unpriced' : 'by model'
}
