// `sluice reload`: asks the running gateway to read its configuration, or only its secrets, again.

import { z } from 'zod'
import { askAdmin } from './admin.ts'
import { DONE, type Hands, type Io, notSo } from './io.ts'
import { problemLines } from './terminal.ts'

/** What the operators' port answers; whatever else it says is not shown. */
const answerSchema = z.object({
  applied: z.boolean().optional().catch(undefined),
  problems: z
    .array(
      z.object({
        file: z.string(),
        path: z.string(),
        message: z.string(),
        line: z.number().optional(),
        column: z.number().optional(),
      }),
    )
    .optional()
    .catch(undefined),
})

export interface ReloadOptions {
  readonly secretsOnly?: boolean
}

/** POST `/reload`. Exit code 1 when the gateway kept what it had. */
export async function reload(options: ReloadOptions, io: Io, hands: Hands): Promise<number> {
  const query = { secretsOnly: options.secretsOnly ? 'true' : undefined }
  const answer = await askAdmin({ method: 'POST', path: '/reload', query }, io, hands)
  if (!answer.ok) return notSo(io, answer.message)
  const { applied, problems = [] } = answerSchema.catch({}).parse(answer.body)
  if (problems.length > 0) io.stderr(problemLines(io, problems.map(dropUndefined)))
  if (!answer.done && applied !== true)
    return notSo(io, answer.message ?? `the gateway answered ${answer.status} and kept what it had`)
  io.stdout(options.secretsOnly ? 'secrets reloaded\n' : 'reloaded\n')
  return problems.length > 0 ? notSo(io, 'the secrets above kept their last good values') : DONE
}

function dropUndefined({
  line,
  column,
  ...rest
}: NonNullable<z.output<typeof answerSchema>['problems']>[number]) {
  return { ...rest, ...(line !== undefined && { line }), ...(column !== undefined && { column }) }
}
