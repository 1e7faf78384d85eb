// What is done to Redis and to those who share it while a proof of limits runs: the same to limiters as to gateways.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Field } from './limits-field.ts'
import type { TestRedis } from './redis.ts'
import { type ClusterSet, type SentinelSet, until } from './redis-forms.ts'
import type { TcpProxy } from './tcp-proxy.ts'

/** A process that claims. */
export interface Member {
  kill(signal: NodeJS.Signals): void
}

/** What a nemesis has in hand. */
export interface RedisScene {
  /** The one that there is now. */
  readonly redis: TestRedis
  readonly proxy: TcpProxy
  readonly sentinel: SentinelSet
  readonly cluster: ClusterSet
  /** Of the hot bucket. */
  readonly key: string
  readonly members: readonly Member[]
  /** Kills Redis; after so long an empty one is there in its place. */
  restartEmpty(awayMs: number): Promise<void>
  /** Redis can be reached again from now on: how long until it decides everywhere is measured. */
  returned(): void
  /** Marks one whose own times say nothing, because it was stopped, or is gone. */
  excuse(member: Member): void
}

/** What a proof adds to its field: who is there, and what it wants to hear of. */
type Parts = Pick<RedisScene, 'key' | 'members' | 'returned' | 'excuse'>

/** The scene on a field. What a form of Redis does not have throws when it is asked for. */
export function createScene<P extends Parts>(field: Field, parts: P): RedisScene & P {
  return Object.assign(
    {
      get redis() {
        return field.redis()
      },
      get proxy() {
        return field.proxy()
      },
      get sentinel() {
        return field.sentinel()
      },
      get cluster() {
        return field.cluster()
      },
      async restartEmpty(awayMs: number) {
        await field.redis().kill9()
        await sleep(awayMs)
        await field.restart()
        parts.returned()
      },
    },
    parts,
  )
}

export type Nemesis = (scene: RedisScene) => Promise<void>

/** When it begins, and how long it lasts or how long apart its blows are, in ms. */
interface Times {
  readonly beforeMs: number
  readonly forMs: number
}

/** kill -9, and an empty one in its place when it comes back. */
export function killRedis({ beforeMs, forMs }: Times): Nemesis {
  return async ({ restartEmpty }) => {
    await sleep(beforeMs)
    await restartEmpty(forMs)
  }
}

/** SIGSTOP: connections stay, nothing answers. */
export function stopRedis({ beforeMs, forMs }: Times): Nemesis {
  return async ({ redis, returned }) => {
    await sleep(beforeMs)
    redis.pause()
    await sleep(forMs)
    redis.resume()
    returned()
  }
}

/** A command, `times` times. */
export function order(times: number, { beforeMs, forMs }: Times, ...command: string[]): Nemesis {
  return async ({ redis, returned }) => {
    await sleep(beforeMs)
    for (let i = 0; i < times; i += 1) {
      if (i > 0) await sleep(forMs)
      await redis.command(...command)
    }
    if (command[0] === 'CLIENT') returned()
  }
}

/** Commands are carried out, and their replies lost; or nothing gets through at all. */
export function loseReplies({ beforeMs, forMs }: Times, how: 'dropReplies' | 'blackHole'): Nemesis {
  return async ({ proxy, returned }) => {
    await sleep(beforeMs)
    proxy[how]()
    await sleep(forMs)
    await proxy.forward()
    // What was under way on old connections stays lost: they are ended, as a network that is back would have them.
    proxy.killConnections()
    returned()
  }
}

/** Those behind the proxy are refused. */
export function cutOff({ beforeMs, forMs }: Times): Nemesis {
  return async ({ proxy, returned }) => {
    await sleep(beforeMs)
    await proxy.refuse()
    await sleep(forMs)
    await proxy.forward()
    returned()
  }
}

/** kill -9 of the master that the sentinels watch. */
export function failOver({ beforeMs }: Pick<Times, 'beforeMs'>): Nemesis {
  return async ({ sentinel, returned }) => {
    await sleep(beforeMs)
    await sentinel.master.kill9()
    // Back is when most sentinels say where the new master is, and it takes writes.
    await until('the replica is the master', async () => {
      if (!JSON.stringify(await sentinel.replica.command('ROLE')).includes('master')) return false
      const told = await Promise.all(
        sentinel.sentinels.map((one) => one.command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', sentinel.name)),
      )
      const port = String(sentinel.replica.port)
      return told.filter((address) => Array.isArray(address) && address[1] === port).length >= 2
    })
    returned()
  }
}

/** The slot of the hot bucket goes from one master to the next. */
export function moveHotSlot(times: number, { beforeMs }: Pick<Times, 'beforeMs'>): Nemesis {
  return async ({ cluster, key }) => {
    const { masters } = cluster
    let at = masters.indexOf(await cluster.masterOf(key))
    for (let i = 0; i < times; i += 1) {
      await sleep(beforeMs)
      const [from, to] = [masters[at], masters[(at + 1) % 3]]
      if (from !== undefined && to !== undefined) await cluster.moveSlot(key, from, to, () => sleep(100))
      at = (at + 1) % 3
    }
  }
}

/** kill -9 of a member. */
export function killMember({ beforeMs }: Pick<Times, 'beforeMs'>): Nemesis {
  return async ({ members: [one], excuse }) => {
    await sleep(beforeMs)
    if (one === undefined) return
    excuse(one)
    one.kill('SIGKILL')
  }
}

/** SIGSTOP of a member, and on again. */
export function stopMember({ beforeMs, forMs }: Times): Nemesis {
  return async ({ members: [one], excuse }) => {
    await sleep(beforeMs)
    if (one === undefined) return
    excuse(one)
    one.kill('SIGSTOP')
    await sleep(forMs)
    one.kill('SIGCONT')
  }
}

/** Two members, again and again: each time the lease in hand is dead or not quite. */
export function stopTwoAgainAndAgain(): Nemesis {
  return async ({ members, excuse }) => {
    await Promise.all(
      members.slice(0, 2).map(async (one, place) => {
        excuse(one)
        for (let i = 0; i < 10; i += 1) {
          await sleep(300 + place * 200)
          one.kill('SIGSTOP')
          await sleep(400 + 100 * i)
          one.kill('SIGCONT')
        }
      }),
    )
  }
}
