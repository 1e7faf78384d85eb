// Loaded into a real gateway process with `--import`: on SIGUSR2 it leaks as a careless dependency would, on every
// stream the process has; with LEAK_CRASH it ends in an uncaught exception. A fault, not a part of the product.

import { inspect } from 'node:util'

process.on('SIGUSR2', () => {
  const secrets = (process.env.LEAK_NAMES ?? '').split(',').map((name) => process.env[name] ?? '')
  for (const secret of secrets) {
    const error = Object.assign(new Error(`refused ${secret}`, { cause: new Error(`Bearer ${secret}`) }), {
      config: { headers: { Authorization: `Bearer ${secret}` } },
    })
    console.log('console.log', { secret })
    console.error('console.error', error)
    console.warn(inspect(error, { depth: 9 }))
    console.table([{ secret }])
    process.stdout.write(`stdout ${secret}\n`)
    process.stderr.write(Buffer.from(`stderr ${Buffer.from(secret).toString('base64')}\n`))
    process.stderr.write(`hex ${Buffer.from(secret).toString('hex')} url ${encodeURIComponent(secret)}\n`)
    // In pieces, as a stream would have it.
    const middle = secret.length >> 1
    process.stderr.write(`split ${secret.slice(0, middle)}`)
    process.stderr.write(`${secret.slice(middle)} end\n`)
    for (const character of `${secret}\n`) process.stdout.write(character)
    process.emitWarning(`warning with ${secret}`)
    Promise.reject(error)
    Promise.reject({ headers: { 'x-api-key': secret } })
  }
  process.stderr.write('LEAKED\n')
  if (process.env.LEAK_CRASH === '1') {
    setTimeout(() => {
      throw new AggregateError(
        secrets.map((secret) => new Error(secret)),
        `crash with ${secrets.join(' ')}`,
      )
    }, 50)
  }
})
