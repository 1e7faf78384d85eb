import { describe, expect, it } from 'vitest'
import { createPost, type Post } from '../../../src/workers/post.ts'

/** Two ends, with JSON between them as the channel carries it. */
function createPair(answer: (question: unknown) => unknown) {
  const errors: unknown[] = []
  const heard: unknown[] = []
  let one: Post | undefined
  const two = createPost({
    send: (message) => one?.hear(JSON.parse(JSON.stringify(message))),
    answer(question) {
      heard.push(question)
      return answer(question)
    },
    onError: (error) => errors.push(error),
  })
  one = createPost({
    send: (message) => two.hear(JSON.parse(JSON.stringify(message))),
    answer: () => undefined,
    onError: (error) => errors.push(error),
  })
  return { one, two, heard, errors }
}

describe('the post between two processes', () => {
  it('brings each answer to who asked, in whatever order they come', async () => {
    const waiting: ((answer: unknown) => void)[] = []
    const { one, heard } = createPair((question) =>
      question === 'now' ? 'at once' : new Promise((resolve) => waiting.push(resolve)),
    )
    const answers = [one.ask('first'), one.ask('second'), one.ask('now')]
    expect(await answers[2]).toBe('at once')
    waiting[1]?.(2)
    waiting[0]?.({ first: [1] })
    expect(await Promise.all(answers)).toEqual([{ first: [1] }, 2, 'at once'])
    expect(heard).toEqual(['first', 'second', 'now'])
  })

  it('rejects a question that could not be answered, and says no more than that', async () => {
    const { one, errors } = createPair((question) => {
      throw new Error(`the secret of ${question}`)
    })
    await expect(one.ask('it')).rejects.toThrow(/^the other process could not answer$/)
    expect(errors).toEqual([new Error('the secret of it')])
  })

  it('rejects what is open, and what is asked after it, when the other end has gone', async () => {
    const { one } = createPair(() => new Promise(() => {}))
    const open = one.ask('a')
    one.close()
    await expect(open).rejects.toThrow('has gone')
    await expect(one.ask('b')).rejects.toThrow('has gone')
  })

  it('leaves alone what is none of its messages', () => {
    const { one, errors } = createPair(() => undefined)
    for (const message of [undefined, null, 1, 'x', {}, { cmd: 'x' }, { reply: 99 }, { ask: 'no' }])
      one.hear(message)
    expect(errors).toEqual([])
  })
})
