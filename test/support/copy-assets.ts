// The last step of `npm run build`: what stands in src and is no TypeScript goes to dist beside the compiled files.

import { cpSync } from 'node:fs'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
cpSync(resolve(root, 'src'), resolve(root, 'dist'), {
  recursive: true,
  filter: (path) => !path.endsWith('.ts'),
})
