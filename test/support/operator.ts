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
  return seriesIn(await metricsOf(at), metric)
}

/** All that a scrape gets, for whoever reads several of them. */
export async function metricsOf(at: TestGateway): Promise<string> {
  return (await fetch(`${at.adminUrl}/metrics`)).text()
}

function seriesIn(text: string, metric: string): string[] {
  return text.split('\n').filter((line) => line.startsWith(`${metric}{`) || line.startsWith(`${metric} `))
}

/** The sum over those of its series whose labels hold the text; NaN when there is none. */
export async function metricOf(at: TestGateway, metric: string, labels = ''): Promise<number> {
  return metricIn(await metricsOf(at), metric, labels)
}

/** The same of what a scrape got. */
export function metricIn(text: string, metric: string, labels = ''): number {
  const values = seriesIn(text, metric)
    .filter((line) => line.includes(labels))
    .map((line) => Number(line.slice(line.lastIndexOf(' ') + 1)))
  return values.length === 0 ? Number.NaN : values.reduce((sum, value) => sum + value, 0)
}
