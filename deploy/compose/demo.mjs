// The agent of compose.yaml: a policy with a bearer that is made with every start, and requests that give the dashboards
// something to show. Ends on SIGTERM.

import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const { POLICIES, TARGET, SHOWN, PER_SECOND = '4' } = process.env
const AT_ONCE = 32
const bearer = `demo-${randomBytes(24).toString('base64url')}`
const sha256 = createHash('sha256').update(bearer).digest('hex')
const policy = `agent: demo
bearers: [{ id: compose, sha256: "${sha256}" }]
scopes: ["chat:*"]
limits: { requests: { capacity: 100, refill: 20/s }, tokens: 200000/min, budget: 50 USD/day }
`

mkdirSync(POLICIES, { recursive: true })
// At one stroke: gateways look at the folder all the time, and take only what ends in .yaml.
writeFileSync(join(POLICIES, 'demo.new'), policy, { mode: 0o644 })
renameSync(join(POLICIES, 'demo.new'), join(POLICIES, 'demo.yaml'))
process.stdout.write(`export OPENAI_BASE_URL=${SHOWN}\nexport OPENAI_API_KEY=${bearer}\n`)

process.on('SIGTERM', () => process.exit(0))
let underWay = 0
for (let count = 0; ; count += 1) {
  await sleep((1_000 / Number(PER_SECOND)) * (0.5 + Math.random()))
  if (underWay < AT_ONCE) void ask(count)
}

async function ask(count) {
  const model = count % 4 === 0 ? 'gpt-oss-120b' : 'claude-opus-4-5-thinking'
  const messages = [{ role: 'user', content: `Step ${count}: what comes next?` }]
  underWay += 1
  try {
    const response = await fetch(`${TARGET}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model, messages, stream: count % 3 !== 0 }),
    })
    await response.text()
  } catch {
    // The gateways are starting, or being restarted: what becomes of it is theirs to show.
  }
  underWay -= 1
}
