// The stage of a test file: two scripted providers that each test finds as new, and gateways that end with their test.

import { afterAll, afterEach, beforeEach } from 'vitest'
import { type GatewayOptions, startGateway, type TestGateway } from './gateway.ts'
import { createScriptedProvider, type ScriptedProvider } from './scripted-provider.ts'

export interface Stage {
  readonly one: ScriptedProvider
  readonly two: ScriptedProvider
  /** Starts a gateway for the test under way. */
  start(options: GatewayOptions): Promise<TestGateway>
  /** Stops them before the test is over, for what must outlive them. */
  stop(): Promise<void>
}

/** Once a file, at its top: the hooks of the file then run after these before a test, and before these after it. */
export async function createStage(): Promise<Stage> {
  const [one, two] = await Promise.all([createScriptedProvider(), createScriptedProvider()])
  const gateways: TestGateway[] = []

  async function stop(): Promise<void> {
    // Or the drain would wait for the streams that are left.
    one.killConnections()
    two.killConnections()
    await Promise.all(gateways.splice(0).map((gateway) => gateway.stop()))
  }

  beforeEach(() => {
    one.reset()
    two.reset()
  })
  afterEach(stop)
  afterAll(() => Promise.all([one.close(), two.close()]))

  return {
    one,
    two,
    stop,
    async start(options) {
      const gateway = await startGateway(options)
      gateways.push(gateway)
      return gateway
    },
  }
}
