// Reads OpenMetrics 1.0 text as strictly as the specification lets a reader be, and throws at the first breach with the
// line. Knows nothing of sluice.

export interface Family {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly unit: string
  readonly help: string
  readonly samples: Sample[]
}

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
  readonly exemplar: Exemplar | undefined
}

export interface Exemplar {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
  /** Unix seconds. */
  readonly at: number
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const LABEL = '[a-zA-Z_][a-zA-Z0-9_]*'
const NUMBER = '[+-]?(?:\\d+(?:\\.\\d*)?(?:[eE][+-]?\\d+)?|Inf|NaN)'
const QUOTED = '"(?:[^"\\\\\\n]|\\\\["\\\\n])*"'
const LABELS = `\\{(?:${LABEL}=${QUOTED}(?:,${LABEL}=${QUOTED})*)?\\}`
const SAMPLE = new RegExp(
  `^(${NAME})(${LABELS})? (${NUMBER})(?: (${NUMBER}))?(?: # (${LABELS}) (${NUMBER})(?: (${NUMBER}))?)?$`,
)
const SUFFIXES = { counter: ['_total', '_created'], gauge: [''], histogram: ['_bucket', '_count', '_sum'] }

/** @throws Error at what is no OpenMetrics text */
export function readOpenMetrics(text: string): Map<string, Family> {
  if (!text.endsWith('# EOF\n')) throw new Error('it does not end with "# EOF" and a line feed')
  const families = new Map<string, Family>()
  let family: { -readonly [K in keyof Family]: Family[K] } | undefined
  const said = new Set<string>()
  for (const line of text.slice(0, -'# EOF\n'.length).split('\n').slice(0, -1)) {
    const fail = (why: string): never => {
      throw new Error(`${why}: ${line}`)
    }
    const meta = new RegExp(`^# (TYPE|HELP|UNIT) (${NAME}) (.*)$`).exec(line)
    if (meta !== null) {
      const [, word = '', name = '', rest = ''] = meta
      if (family?.name !== name) {
        if (families.has(name)) fail('a family that stands twice')
        family = { name, type: 'gauge', unit: '', help: '', samples: [] }
        families.set(name, family)
        said.clear()
      }
      if (said.has(word)) fail('said twice')
      if (family.samples.length > 0) fail('said behind a sample')
      said.add(word)
      if (word === 'HELP') family.help = rest
      else if (word === 'UNIT') {
        if (!name.endsWith(`_${rest}`)) fail('a unit that is no suffix of the name')
        family.unit = rest
      } else if (rest === 'counter' || rest === 'gauge' || rest === 'histogram') family.type = rest
      else fail('a type that is not expected')
      continue
    }
    const match = SAMPLE.exec(line)
    if (match === null || family === undefined) return fail('neither metadata nor a sample of a family')
    const [, name = '', labels, value = '', , ids, measured, at] = match
    const suffix = SUFFIXES[family.type].find((one) => name === family?.name + one)
    if (suffix === undefined) fail('a sample of another family')
    const exemplar = ids === undefined ? undefined : toExemplar(ids, measured, at)
    if (exemplar !== undefined) {
      if (suffix !== '_total' && suffix !== '_bucket') fail('an exemplar where there can be none')
      const length = Object.entries(exemplar.labels).flat().join('').length
      if (length > 128) fail('an exemplar with more than 128 characters')
    }
    family.samples.push({ name, labels: toLabels(labels), value: toNumber(value), exemplar })
  }
  for (const one of families.values()) check(one)
  return families
}

function check(family: Family): void {
  const fail = (why: string): never => {
    throw new Error(`${family.name}: ${why}`)
  }
  const seen = new Set<string>()
  for (const { name, labels, value } of family.samples) {
    const place = JSON.stringify([name, Object.entries(labels).sort()])
    if (seen.has(place)) fail(`${place} stands twice`)
    seen.add(place)
    if (family.type === 'counter' && !(value >= 0)) fail('a counter below 0')
  }
  if (family.type !== 'histogram') return
  const series = Object.groupBy(family.samples, ({ labels: { le: _, ...rest } }) =>
    JSON.stringify(Object.entries(rest).sort()),
  )
  for (const [labels, samples = []] of Object.entries(series)) {
    const buckets = samples.filter(({ name }) => name.endsWith('_bucket'))
    const [count] = samples.filter(({ name }) => name.endsWith('_count'))
    if (buckets.at(-1)?.labels.le !== '+Inf') fail(`${labels} has no last bucket`)
    if (buckets.at(-1)?.value !== count?.value) fail(`${labels} counts otherwise than its last bucket`)
    let [below, before] = [Number.NEGATIVE_INFINITY, 0]
    for (const { labels, value, exemplar } of buckets) {
      const le = toNumber(labels.le ?? '')
      if (/^\d+$/.test(labels.le ?? '')) fail(`${labels.le} is no float`)
      if (!(le > below) || value < before) fail(`the bucket ${labels.le} is out of order`)
      const inside = exemplar === undefined || (exemplar.value > below && exemplar.value <= le)
      if (!inside) fail(`the exemplar of ${labels.le} is of another bucket`)
      ;[below, before] = [le, value]
    }
  }
}

function toExemplar(ids: string, measured = '', at = ''): Exemplar {
  return { labels: toLabels(ids), value: toNumber(measured), at: toNumber(at) }
}

function toLabels(text = '{}'): Record<string, string> {
  const found: Record<string, string> = {}
  for (const [, name = '', quoted = ''] of text.matchAll(new RegExp(`(${LABEL})=(${QUOTED})`, 'g'))) {
    if (name in found) throw new Error(`${name} stands twice in ${text}`)
    found[name] = JSON.parse(quoted)
  }
  return found
}

function toNumber(text: string): number {
  return Number(text.replace('Inf', 'Infinity'))
}
