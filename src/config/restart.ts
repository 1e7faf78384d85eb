// What a reload cannot change. Pure.

import type { Snapshot } from './snapshot.ts'

/** A warning for each setting that is taken at start only and is another one than before. */
export function needsRestart(before: Snapshot, after: Snapshot): string[] {
  const warnings: string[] = []
  const place = ({ host, port }: { host: string; port: number }) => `${host}:${port}`
  if (place(before.listen) !== place(after.listen))
    warnings.push('listen.host and listen.port change with a restart')
  if (place(before.admin) !== place(after.admin))
    warnings.push('admin.host and admin.port change with a restart')
  if (before.listen.workers !== after.listen.workers) warnings.push('listen.workers changes with a restart')
  if (JSON.stringify(before.redis) !== JSON.stringify(after.redis))
    warnings.push('redis changes with a restart')
  return warnings
}
