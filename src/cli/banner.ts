// What a start without a file says to a person: how to call the gateway, to be pasted into a shell.

/** Holds the bearer: to be printed once, past the scrubber. `host` and `port` are those it listens on. */
export function toBanner(host: string, port: number, bearer: string): string {
  const url = `http://${host === '0.0.0.0' ? '127.0.0.1' : host}:${port}/v1`
  const body = '{"model":"auto","messages":[{"role":"user","content":"Hello, who are you?"}]}'
  return [
    '',
    `export OPENAI_BASE_URL=${url}`,
    `export OPENAI_API_KEY=${/^[\w.~+/=-]+$/.test(bearer) ? bearer : quoted(bearer)}`,
    '',
    `curl -s ${url}/chat/completions -H ${quoted(`authorization: Bearer ${bearer}`)} -H 'content-type: application/json' -d '${body}'`,
    '',
    '',
  ].join('\n')
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`
}
