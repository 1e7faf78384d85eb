// Ids of requests, and of what else must be told apart over the fleet.

/**
 * Makes ids that are unique over the fleet: 60 random bits of this process and a counter.
 * @param randomBytes gives that many bytes from a cryptographic source
 */
export function createIds(prefix: string, randomBytes: (count: number) => Uint8Array): () => string {
  const stem = prefix + Buffer.from(randomBytes(8)).toString('base64url').replaceAll(/[-_]/g, 'x')
  let count = 0
  return () => {
    count += 1
    return stem + count.toString(36).padStart(4, '0')
  }
}
