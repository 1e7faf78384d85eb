import { expect, it } from 'vitest'
import { Ending } from '../../../src/bytes/ending.ts'

it('an ending is told once, in order, to who still listens, with its reason', () => {
  const ending = new Ending()
  const heard: string[] = []
  const gone = () => heard.push('gone')
  ending.addEventListener('abort', () => heard.push(`a ${String(ending.reason)}`))
  ending.addEventListener('abort', gone)
  ending.addEventListener('abort', () => heard.push('b'))
  ending.removeEventListener('abort', gone)
  ending.removeEventListener('abort', gone)
  expect(ending.aborted).toBe(false)
  ending.abort('why')
  ending.abort('again')
  expect(heard).toEqual(['a why', 'b'])
  expect([ending.aborted, ending.reason]).toEqual([true, 'why'])
  ending.addEventListener('abort', gone)
  expect(heard).toHaveLength(2)
})

it('a listener that takes another away, or adds one, changes nothing for who was told', () => {
  const ending = new Ending()
  const heard: string[] = []
  const second = () => heard.push('second')
  ending.addEventListener('abort', () => {
    heard.push('first')
    ending.removeEventListener('abort', second)
    ending.addEventListener('abort', () => heard.push('late'))
  })
  ending.addEventListener('abort', second)
  ending.abort()
  expect(heard).toEqual(['first', 'second'])
})
