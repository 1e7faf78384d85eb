// The dashboards of deploy/grafana, each as the questions it answers; `npm run reference` writes them in Grafana's JSON.
// The tests ask a real Prometheus every query that stands here.

/** A thing to choose at the top of a dashboard: a label, and the metric that has all of its values. */
export interface Variable {
  readonly label: 'agent' | 'route' | 'tier' | 'deployment'
  readonly metric: string
}

export interface Query {
  readonly expr: string
  /** With `{{label}}`. */
  readonly legend: string
  /** Asked for one moment, the end of the time shown, instead of for all of it. */
  readonly instant?: boolean
}

export type PanelKind = 'timeseries' | 'stat' | 'heatmap' | 'states' | 'bars'

export interface Panel {
  readonly title: string
  readonly description?: string
  readonly kind: PanelKind
  /** As Grafana names them. */
  readonly unit: 's' | 'reqps' | 'short' | 'percentunit' | 'currencyUSD' | 'none'
  readonly queries: readonly Query[]
  /** Of 24. */
  readonly width: number
  readonly height: number
  readonly stacked?: boolean
  /** Names and colours of the values of states. */
  readonly states?: readonly (readonly [value: number, name: string, colour: string])[]
  /** From which value on which colour; null is the least there is. */
  readonly thresholds?: readonly (readonly [value: number | null, colour: string])[]
}

export interface Row {
  readonly title: string
  readonly panels: readonly Panel[]
}

export interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly description: string
  readonly variables: readonly Variable[]
  readonly rows: readonly Row[]
}

const AGENT: Variable = { label: 'agent', metric: 'sluice_requests_total' }
const ROUTE: Variable = { label: 'route', metric: 'sluice_requests_total' }
const TIER: Variable = { label: 'tier', metric: 'sluice_attempts_total' }
const DEPLOYMENT: Variable = { label: 'deployment', metric: 'sluice_deployment_state' }

const TOTAL = 'route_tier_stream:sluice_request_duration_seconds_bucket:rate5m'
const FIRST_TOKEN = 'route_tier_deployment:sluice_first_token_seconds_bucket:rate5m'
const OVERHEAD = 'operation:sluice_overhead_seconds_bucket:rate5m'
const ATTEMPT = 'deployment:sluice_attempt_duration_seconds_bucket:rate5m'

const BY_ROUTE = '{route=~"$route", tier=~"$tier"}'
const BY_DEPLOYMENT = '{route=~"$route", tier=~"$tier", deployment=~"$deployment"}'

const STATES = [
  [0, 'available', 'green'],
  [1, 'low_quota', 'yellow'],
  [2, 'slow', 'orange'],
  [3, 'unavailable', 'red'],
] as const
const UP = [
  [0, 'away', 'red'],
  [1, 'up', 'green'],
] as const

const third = { width: 8, height: 8 } as const
const half = { width: 12, height: 8 } as const
const small = { width: 4, height: 4 } as const

export const DASHBOARDS: readonly Dashboard[] = [
  {
    uid: 'sluice-latency',
    title: 'Sluice: latency',
    description: 'How long agents wait, for what, and how much of it is the gateway itself.',
    variables: [ROUTE, TIER, DEPLOYMENT],
    rows: [
      {
        title: 'Quantiles of five minutes',
        panels: [
          quantiles('Whole request', TOTAL + BY_ROUTE, 'From the head of a request to its end.'),
          quantiles(
            'First token',
            FIRST_TOKEN + BY_DEPLOYMENT,
            'Of streams: from the head of a request to the first content of its answer.',
          ),
          quantiles(
            'Overhead',
            OVERHEAD,
            'Time in which no provider was at work: the gateway itself, queues, pauses and bodies that come slowly.',
          ),
        ],
      },
      {
        title: 'How they are spread',
        panels: [
          heatmap('Whole request', `sluice_request_duration_seconds_bucket${BY_ROUTE}`),
          heatmap('First token', `sluice_first_token_seconds_bucket${BY_DEPLOYMENT}`),
          heatmap('Overhead', 'sluice_overhead_seconds_bucket'),
        ],
      },
      {
        title: 'Who is slow',
        panels: [
          p95('Whole request by route, p95', TOTAL + BY_ROUTE, 'route'),
          p95(
            'Whole request by tier that answered, p95',
            `${TOTAL}{route=~"$route", tier=~"$tier", tier!=""}`,
            'tier',
          ),
          p95('Overhead by operation, p95', OVERHEAD, 'operation'),
          p95('First token by route, p95', FIRST_TOKEN + BY_DEPLOYMENT, 'route'),
          p95('First token by deployment, p95', FIRST_TOKEN + BY_DEPLOYMENT, 'deployment'),
          p95('One call by deployment, p95', `${ATTEMPT}{deployment=~"$deployment"}`, 'deployment'),
        ],
      },
    ],
  },
  {
    uid: 'sluice-failover',
    title: 'Sluice: failover',
    description: 'Which deployments can be asked, what attempts came to, and who answers in their place.',
    variables: [ROUTE, TIER, DEPLOYMENT],
    rows: [
      {
        title: 'Deployments',
        panels: [
          {
            title: 'State, as the worst replica sees it',
            kind: 'states',
            unit: 'none',
            width: 24,
            height: 8,
            states: STATES,
            queries: [
              {
                expr: `max by (deployment) (${STATES.map(
                  ([value, state]) =>
                    `${value} * sluice_deployment_state{deployment=~"$deployment", state="${state}"}`,
                ).join(' or ')})`,
                legend: '{{deployment}}',
              },
            ],
          },
        ],
      },
      {
        title: 'Attempts',
        panels: [
          rates('Attempts by outcome', {
            expr: `sum by (outcome) (rate(sluice_attempts_total{tier=~"$tier", deployment=~"$deployment"}[$__rate_interval]))`,
            legend: '{{outcome}}',
            stacked: true,
          }),
          rates('Attempts that failed, by reason', {
            expr: `sum by (tier, reason) (rate(sluice_attempts_total{tier=~"$tier", deployment=~"$deployment", outcome=~"retry|broken|refuse"}[$__rate_interval]))`,
            legend: '{{tier}} {{reason}}',
          }),
          rates('Candidates passed over, by reason', {
            expr: `sum by (tier, reason) (rate(sluice_attempts_total{tier=~"$tier", deployment=~"$deployment", outcome="skipped"}[$__rate_interval]))`,
            legend: '{{tier}} {{reason}}',
          }),
          {
            title: 'Calls that were answered, by deployment',
            kind: 'timeseries',
            unit: 'percentunit',
            ...third,
            queries: [
              {
                expr: `sum by (deployment) (rate(sluice_attempts_total{tier=~"$tier", deployment=~"$deployment", outcome="answered"}[$__rate_interval])) / (sum by (deployment) (rate(sluice_attempts_total{tier=~"$tier", deployment=~"$deployment", outcome!="skipped"}[$__rate_interval])) > 0)`,
                legend: '{{deployment}}',
              },
            ],
          },
          rates('Answers by tier', {
            expr: `sum by (tier) (rate(sluice_request_duration_seconds_count{route=~"$route", tier=~"$tier", tier!=""}[$__rate_interval]))`,
            legend: '{{tier}}',
            stacked: true,
          }),
          rates('Moves from tier to tier', {
            expr: `sum by (from, to, reason) (rate(sluice_failovers_total{route=~"$route", from=~"$tier"}[$__rate_interval]))`,
            legend: '{{from}} → {{to}}: {{reason}}',
          }),
        ],
      },
      {
        title: 'What agents notice',
        panels: [
          {
            title: 'Degraded share by route',
            description: 'Answers by another tier than the first of the route, of five minutes.',
            kind: 'timeseries',
            unit: 'percentunit',
            ...half,
            queries: [{ expr: 'route:sluice_degraded:ratio_rate5m{route=~"$route"}', legend: '{{route}}' }],
          },
          rates('Requests that nobody answered', {
            expr: `sum by (route, code) (rate(sluice_requests_total{route=~"$route", code=~"upstream_failed|upstream_incomplete|deadline_exceeded"}[$__rate_interval]))`,
            legend: '{{route}} {{code}}',
            width: 12,
          }),
        ],
      },
    ],
  },
  {
    uid: 'sluice-limits',
    title: 'Sluice: limits',
    description: 'Who is refused and by what, how full limits are, and how they are counted.',
    variables: [AGENT],
    rows: [
      {
        title: 'Refusals',
        panels: [
          rates('Refusals by limit', {
            expr: 'sum by (limit) (rate(sluice_limit_refusals_total{agent=~"$agent"}[$__rate_interval]))',
            legend: '{{limit}}',
            stacked: true,
          }),
          rates('Refusals by agent, the ten most', {
            expr: 'topk(10, sum by (agent) (rate(sluice_limit_refusals_total{agent=~"$agent"}[$__rate_interval])))',
            legend: '{{agent}}',
          }),
          {
            title: 'Requests refused of those sent, by agent',
            kind: 'timeseries',
            unit: 'percentunit',
            ...third,
            queries: [
              {
                expr: 'sum by (agent) (agent_status_code:sluice_requests:rate5m{agent=~"$agent", status="429"}) / (sum by (agent) (agent_status_code:sluice_requests:rate5m{agent=~"$agent"}) > 0)',
                legend: '{{agent}}',
              },
            ],
          },
        ],
      },
      {
        title: 'Use',
        panels: [
          {
            title: 'Budget used',
            description: 'In the present day or month; what is reserved or on lease counts.',
            kind: 'bars',
            unit: 'percentunit',
            ...third,
            thresholds: [
              [null, 'green'],
              [0.8, 'orange'],
              [1, 'red'],
            ],
            queries: [
              {
                expr: 'max by (agent) (sluice_limit_budget_used_ratio{agent=~"$agent"})',
                legend: '{{agent}}',
                instant: true,
              },
            ],
          },
          gauges('Slots and holds', [
            ['sum(sluice_limit_slots)', 'slots held'],
            ['sum(sluice_limit_open_holds)', 'open holds'],
          ]),
          gauges('Requests that wait for their turn', [['sum(sluice_limit_waiting)', 'waiting']]),
        ],
      },
      {
        title: 'How they are counted',
        panels: [
          gauges('Permits on lease, by replica', [
            ['sum by (instance) (sluice_limit_lease_permits)', '{{instance}}'],
          ]),
          {
            title: 'Trips to Redis for each request',
            kind: 'timeseries',
            unit: 'short',
            ...third,
            queries: [
              {
                expr: 'sum(rate(sluice_redis_round_trips_total[$__rate_interval])) / (sum(rate(sluice_requests_total[$__rate_interval])) > 0)',
                legend: 'trips',
              },
            ],
          },
          rates('Trips to Redis, by replica', {
            expr: 'sum by (instance) (rate(sluice_redis_round_trips_total[$__rate_interval]))',
            legend: '{{instance}}',
          }),
          {
            title: 'Redis, as each replica sees it',
            kind: 'states',
            unit: 'none',
            width: 16,
            height: 6,
            states: UP,
            queries: [{ expr: 'max by (instance) (sluice_redis_up)', legend: '{{instance}}' }],
          },
          {
            ...gauges('Owed to Redis after an outage', [['sum by (kind) (sluice_limit_owed)', '{{kind}}']]),
            height: 6,
          },
        ],
      },
    ],
  },
  {
    uid: 'sluice-cost',
    title: 'Sluice: cost and tokens',
    description: 'What agents use and what it costs.',
    variables: [AGENT, DEPLOYMENT],
    rows: [
      {
        title: 'Dollars',
        panels: [
          {
            title: 'Cost in the time shown, by agent',
            kind: 'bars',
            unit: 'currencyUSD',
            ...third,
            queries: [
              {
                expr: 'sort_desc(sum by (agent) (increase(sluice_cost_usd_total{agent=~"$agent", deployment=~"$deployment"}[$__range])))',
                legend: '{{agent}}',
                instant: true,
              },
            ],
          },
          {
            title: 'Cost by agent, an hour',
            kind: 'timeseries',
            unit: 'currencyUSD',
            ...third,
            stacked: true,
            queries: [
              {
                expr: 'sum by (agent) (agent_deployment:sluice_cost_usd:rate5m{agent=~"$agent", deployment=~"$deployment"}) * 3600',
                legend: '{{agent}}',
              },
            ],
          },
          {
            title: 'Cost by deployment, an hour',
            kind: 'timeseries',
            unit: 'currencyUSD',
            ...third,
            stacked: true,
            queries: [
              {
                expr: 'sum by (deployment) (agent_deployment:sluice_cost_usd:rate5m{agent=~"$agent", deployment=~"$deployment"}) * 3600',
                legend: '{{deployment}}',
              },
            ],
          },
        ],
      },
      {
        title: 'Tokens',
        panels: [
          perSecond('Tokens by kind, a second', 'kind'),
          perSecond('Tokens by agent, a second', 'agent', ', kind=~"input|output"'),
          perSecond('Tokens by deployment, a second', 'deployment', ', kind=~"input|output"'),
          {
            title: 'Input that was cached, by agent',
            kind: 'timeseries',
            unit: 'percentunit',
            ...half,
            queries: [
              {
                expr: 'sum by (agent) (agent_deployment_kind:sluice_tokens:rate5m{agent=~"$agent", deployment=~"$deployment", kind="cached"}) / (sum by (agent) (agent_deployment_kind:sluice_tokens:rate5m{agent=~"$agent", deployment=~"$deployment", kind="input"}) > 0)',
                legend: '{{agent}}',
              },
            ],
          },
          rates('Calls without a price', {
            expr: 'sum by (deployment) (rate(sluice_unpriced_requests_total{deployment=~"$deployment"}[$__rate_interval]))',
            legend: '{{deployment}}',
            width: 12,
          }),
        ],
      },
    ],
  },
  {
    uid: 'sluice-fleet',
    title: 'Sluice: fleet',
    description: 'Whether the gateways are well, what they carry, and what is wrong at the moment.',
    variables: [],
    rows: [
      {
        title: 'Now',
        panels: [
          stat('Gateways up', 'none', 'sum(up{job="sluice"})'),
          stat('Requests a second', 'reqps', 'sum(rate(sluice_requests_total[$__rate_interval]))'),
          stat('Under way', 'none', 'sum(sluice_inflight)'),
          stat('Streams', 'none', 'sum(sluice_streams)'),
          stat(
            'Answered 5xx',
            'percentunit',
            '(sum(rate(sluice_requests_total{status=~"5.."}[$__rate_interval])) or vector(0)) / (sum(rate(sluice_requests_total[$__rate_interval])) > 0)',
          ),
          stat('Alerts', 'none', 'count(ALERTS{alertname=~"Sluice.+", alertstate="firing"}) or vector(0)'),
        ],
      },
      {
        title: 'Alerts',
        panels: [
          {
            title: 'Alerts that fire',
            kind: 'states',
            unit: 'none',
            width: 24,
            height: 7,
            states: [[1, 'firing', 'red']],
            queries: [
              {
                expr: 'max by (alertname, instance, tier, route, agent, secret) (ALERTS{alertname=~"Sluice.+", alertstate="firing"})',
                legend: '{{alertname}} {{instance}}{{tier}}{{route}}{{agent}}{{secret}}',
              },
            ],
          },
        ],
      },
      {
        title: 'Load',
        panels: [
          rates('Requests by status', {
            expr: 'sum by (status) (rate(sluice_requests_total[$__rate_interval]))',
            legend: '{{status}}',
            stacked: true,
          }),
          rates('Errors by code', {
            expr: 'sum by (code) (rate(sluice_requests_total{code!="ok"}[$__rate_interval]))',
            legend: '{{code}}',
          }),
          gauges('Answers of 503 in five minutes, by agent', [
            ['agent:sluice_requests_503:increase5m', '{{agent}}'],
          ]),
          rates('Requests by gateway', {
            expr: 'sum by (instance) (rate(sluice_requests_total[$__rate_interval]))',
            legend: '{{instance}}',
          }),
          gauges('Under way, by gateway', [
            ['sum by (instance) (sluice_inflight)', '{{instance}}'],
            ['sum by (instance) (sluice_streams)', '{{instance}} streams'],
          ]),
          gauges('Replicas, as each sees them', [
            ['max by (instance) (sluice_redis_fleet_size)', '{{instance}}'],
          ]),
        ],
      },
      {
        title: 'Secrets and bearers',
        panels: [
          {
            title: 'Age of secrets, and when they are to be replaced',
            kind: 'timeseries',
            unit: 's',
            ...half,
            queries: [
              { expr: 'max by (secret) (sluice_secret_age_seconds)', legend: '{{secret}}' },
              { expr: 'max by (secret) (sluice_secret_rotate_seconds)', legend: '{{secret}} rotation' },
            ],
          },
          {
            ...gauges('Uses of keys outside their hours in five minutes', [
              [
                'sum by (provider, secret) (increase(sluice_key_uses_outside_hours_total[5m]))',
                '{{provider}} {{secret}}',
              ],
            ]),
            ...half,
          },
          {
            ...gauges('Loads of secrets since the start', [
              ['sum by (secret, outcome) (sluice_secret_loads_total)', '{{secret}} {{outcome}}'],
            ]),
            ...half,
          },
          {
            ...gauges('Bearers revoked since the start', [
              ['sum by (source) (sluice_revocations_total)', '{{source}}'],
            ]),
            ...half,
          },
        ],
      },
    ],
  },
]

function quantiles(title: string, buckets: string, description: string): Panel {
  const queries = [50, 95, 99].map((percent) => ({
    expr: `histogram_quantile(${percent / 100}, sum by (le) (${buckets}))`,
    legend: `p${percent}`,
  }))
  return { title, description, kind: 'timeseries', unit: 's', ...third, queries }
}

function p95(title: string, buckets: string, label: string): Panel {
  const expr = `histogram_quantile(0.95, sum by (le, ${label}) (${buckets}))`
  return { title, kind: 'timeseries', unit: 's', ...third, queries: [{ expr, legend: `{{${label}}}` }] }
}

function heatmap(title: string, buckets: string): Panel {
  const expr = `sum by (le) (increase(${buckets}[$__rate_interval]))`
  return { title, kind: 'heatmap', unit: 's', ...third, queries: [{ expr, legend: '{{le}}' }] }
}

function rates(
  title: string,
  { expr, legend, ...more }: { expr: string; legend: string; stacked?: boolean; width?: number },
): Panel {
  return { title, kind: 'timeseries', unit: 'reqps', ...third, queries: [{ expr, legend }], ...more }
}

function perSecond(title: string, label: string, matchers = ''): Panel {
  const expr = `sum by (${label}) (agent_deployment_kind:sluice_tokens:rate5m{agent=~"$agent", deployment=~"$deployment"${matchers}})`
  return { title, kind: 'timeseries', unit: 'short', ...third, queries: [{ expr, legend: `{{${label}}}` }] }
}

function gauges(title: string, queries: readonly (readonly [expr: string, legend: string])[]): Panel {
  return {
    title,
    kind: 'timeseries',
    unit: 'short',
    ...third,
    queries: queries.map(([expr, legend]) => ({ expr, legend })),
  }
}

function stat(title: string, unit: Panel['unit'], expr: string): Panel {
  return { title, kind: 'stat', unit, ...small, queries: [{ expr, legend: title }] }
}
