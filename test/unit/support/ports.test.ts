import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { freePort, releasePort, takePort } from '../../support/ports.ts'

test('a fixed port that somebody else has is named, with what it is needed for', async () => {
  const port = await freePort()
  releasePort(port)
  const occupant = createServer().listen(port, '127.0.0.1')
  await once(occupant, 'listening')
  await expect(takePort(port, 10_000, 100)).rejects.toThrow(
    `another process listens on port ${port}: the tests of a start without configuration need 7456 and 7457 free`,
  )
  occupant.close()
  await once(occupant, 'close')
  await takePort(port, 1_000)
  releasePort(port)
})
