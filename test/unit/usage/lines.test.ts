import { describe, expect, it } from 'vitest'
import { createLines } from '../../../src/usage/lines.ts'

function createBook(shared: boolean) {
  const writes: string[] = []
  let run = (): void => {}
  const lines = createLines(
    (text) => writes.push(text),
    (soon) => {
      run = soon
    },
    { shared: () => shared },
  )
  return { lines, writes, turn: () => run() }
}

const line = (bytes: number): string => `${'x'.repeat(bytes - 1)}\n`

describe('log lines', () => {
  it('of one turn leave in one write', () => {
    const { lines, writes, turn } = createBook(false)
    for (let i = 0; i < 20; i++) lines.write(line(1000))
    turn()
    expect(writes).toEqual([line(1000).repeat(20)])
  })

  it('to a place that other processes write to leave in writes of whole lines that the system takes as one', () => {
    const { lines, writes, turn } = createBook(true)
    for (const bytes of [1000, 1000, 1000, 1000, 1000, 4096, 1, 5000, 10, 10]) lines.write(line(bytes))
    turn()
    expect(writes.map((text) => text.length)).toEqual([4000, 1000, 4096, 1, 5000, 20])
    expect(writes.every((text) => text.endsWith('\n'))).toBe(true)
  })

  it('are measured in bytes, and one that has not ended is written as well', () => {
    const { lines, writes, turn } = createBook(true)
    const wide = `${'é'.repeat(1000)}\n`
    for (const text of [wide, wide, wide, 'begun']) lines.write(text)
    turn()
    expect(writes).toEqual([wide + wide, `${wide}begun`])
  })
})
