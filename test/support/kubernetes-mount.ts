// A folder as Kubernetes mounts a ConfigMap or a Secret: each file is a link into `..data`, which is a link to a folder with
// the time in its name; a change makes a new folder and swings that one link.

import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

/** Lays the files out, or replaces all of them at one stroke. */
export function mountFiles(folder: string, files: Readonly<Record<string, string>>, mode = 0o644): void {
  mkdirSync(folder, { recursive: true })
  // The root of such a volume is open to everybody, with the sticky bit.
  chmodSync(folder, 0o1777)
  const name = `..${new Date().toISOString().replaceAll(/[-:.TZ]/g, '_')}${Math.random()}`
  mkdirSync(join(folder, name))
  for (const [file, text] of Object.entries(files)) {
    writeFileSync(join(folder, name, file), text)
    chmodSync(join(folder, name, file), mode)
  }
  const data = join(folder, '..data')
  const before = lstatSync(data, { throwIfNoEntry: false }) && readlinkSync(data)
  symlinkSync(name, `${data}_tmp`)
  renameSync(`${data}_tmp`, data)
  for (const file of Object.keys(files)) {
    rmSync(join(folder, file), { force: true })
    symlinkSync(join('..data', file), join(folder, file))
  }
  if (before !== undefined) rmSync(join(folder, before), { recursive: true })
}
