// What answers and is loaded with the first request that it is for: a start, and whoever never asks, does without.

export interface Later<A extends unknown[]> {
  /** Calls what is loaded, at once where it is there. */
  call(...args: A): void
}

/** `failed` takes a call that could not be made, as what was to be called could not be loaded. */
export function createLater<A extends unknown[]>(
  load: () => Promise<(...args: A) => void>,
  failed: (error: unknown, ...args: A) => void,
): Later<A> {
  let loaded: ((...args: A) => void) | undefined
  let loading: Promise<(...args: A) => void> | undefined
  const begin = async (): Promise<(...args: A) => void> => {
    loading ??= load()
    try {
      loaded = await loading
      return loaded
    } catch (error) {
      // Out of files for a moment, say: whoever asks next tries again.
      loading = undefined
      throw error
    }
  }
  return {
    call(...args) {
      if (loaded !== undefined) loaded(...args)
      else
        begin().then(
          (run) => run(...args),
          (error: unknown) => failed(error, ...args),
        )
    },
  }
}
