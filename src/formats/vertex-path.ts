// Where a model stands at Vertex AI. Pure.

import type { Asked } from './format.ts'
import { toSegment } from './segment.ts'

/** Without the method. A key of the express mode belongs to a project already. */
export function toVertexPath(
  publisher: string,
  model: string,
  { project, region = 'global' }: Asked['options'],
): string {
  // Versions stand behind an @, which is a sign like others in a path.
  const inside = `publishers/${publisher}/models/${toSegment(model).replaceAll('%40', '@')}`
  return project === undefined
    ? `/${inside}`
    : `/projects/${toSegment(project)}/locations/${toSegment(region)}/${inside}`
}
