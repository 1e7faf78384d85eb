// How the tests run: real processes and a real Redis, so workers are processes and few.

import { configDefaults, defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Minutes each: `npm run test:system`, `npm run test:agents`.
    exclude: [...configDefaults.exclude, 'test/system/**', 'test/agents/**'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    maxWorkers: 2,
  },
})
