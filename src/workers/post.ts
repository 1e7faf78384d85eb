// Questions and answers over the channel between the primary and one worker; both ends have one. Knows nothing of what
// is asked. The channel is ordered and loses nothing while both live.

export interface Post {
  /** Rejects when the other end has gone, or could not answer. */
  ask(question: unknown): Promise<unknown>
  /** Takes in a message of the channel; what is none of ours is left alone. */
  hear(message: unknown): void
  /** The other end has gone. */
  close(): void
}

interface Deps {
  readonly send: (message: object) => void
  /** Answers the other end's questions; what it gives must be JSON. */
  readonly answer: (question: unknown) => unknown
  /** A question that could not be answered; the asker hears only that. */
  readonly onError: (error: unknown) => void
}

export function createPost({ send, answer, onError }: Deps): Post {
  const open = new Map<number, { resolve(answer: unknown): void; reject(error: Error): void }>()
  let count = 0
  let closed = false

  async function reply(ask: number, question: unknown): Promise<void> {
    try {
      const told = answer(question)
      // What is known at once leaves in this turn, so that it stays in order.
      const answered = told instanceof Promise ? await told : told
      if (!closed) send({ reply: ask, answer: answered })
    } catch (error) {
      onError(error)
      if (!closed) send({ reply: ask, failed: true })
    }
  }

  return {
    ask(question) {
      if (closed) return Promise.reject(new Error('the other process has gone'))
      count += 1
      const ask = count
      return new Promise((resolve, reject) => {
        open.set(ask, { resolve, reject })
        send({ ask, question })
      })
    },
    hear(message) {
      if (typeof message !== 'object' || message === null) return
      if ('ask' in message && typeof message.ask === 'number') {
        void reply(message.ask, 'question' in message ? message.question : undefined)
      } else if ('reply' in message && typeof message.reply === 'number') {
        const asked = open.get(message.reply)
        open.delete(message.reply)
        if ('failed' in message) asked?.reject(new Error('the other process could not answer'))
        else asked?.resolve('answer' in message ? message.answer : undefined)
      }
    },
    close() {
      closed = true
      for (const { reject } of open.values()) reject(new Error('the other process has gone'))
      open.clear()
    },
  }
}
