// What an operator reads on a gateway's own port.

import type { TestGateway } from './gateway.ts'

/** `GET /status`; `query` such as `?agent=a`. */
// biome-ignore lint/suspicious/noExplicitAny: what it says is what is tested
export async function statusOf(at: TestGateway, query = ''): Promise<any> {
  const response = await fetch(`${at.adminUrl}/status${query}`, {
    headers: { authorization: `Bearer ${at.adminToken}` },
  })
  if (response.status !== 200) throw new Error(`${response.status} for the status${query}`)
  return response.json()
}

/** The lines of a metric, as Prometheus reads them: `name{label="…"} 1`. */
export async function seriesOf(at: TestGateway, metric: string): Promise<string[]> {
  const text = await (await fetch(`${at.adminUrl}/metrics`)).text()
  return text.split('\n').filter((line) => line.startsWith(`${metric}{`) || line.startsWith(`${metric} `))
}

/** The sum over those of its series whose labels hold the text; NaN when there is none. */
export async function metricOf(at: TestGateway, metric: string, labels = ''): Promise<number> {
  const values = (await seriesOf(at, metric))
    .filter((line) => line.includes(labels))
    .map((line) => Number(line.slice(line.lastIndexOf(' ') + 1)))
  return values.length === 0 ? Number.NaN : values.reduce((sum, value) => sum + value, 0)
}
