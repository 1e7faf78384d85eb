import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { references } from '../reference.ts'

test('the generated references say what the code does; else run `npm run reference`', async () => {
  for (const [path, text] of await references()) {
    expect(await readFile(new URL(`../../${path}`, import.meta.url), 'utf8'), path).toBe(text)
  }
})
