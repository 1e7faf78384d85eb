// The spellings in which one secret can stand in a text: as it is, and as the encoders that text passes on its way
// to a log would write it. Pure.

/**
 * The byte strings that give a secret away, without duplicates. Base64 is given at its three alignments, without
 * the edge characters that depend on the neighbours, so that a secret is found inside a larger blob
 * (`user:secret`, a whole header, a body).
 */
export function formsOf(secret: string): Buffer[] {
  const value = secret.toWellFormed()
  const bytes = Buffer.from(value)
  const forms = new Set<string>([value])
  for (const escaped of escapesOf(value)) forms.add(escaped)
  for (const encoded of percentFormsOf(value)) forms.add(encoded)
  for (let alignment = 0; alignment < 3; alignment++) {
    const blob = base64At(bytes, alignment)
    forms.add(blob)
    forms.add(blob.replaceAll('+', '-').replaceAll('/', '_'))
    // A blob in a query (`+`, `/` percent-encoded).
    forms.add(encodeURIComponent(blob))
  }
  const hex = bytes.toString('hex')
  forms.add(hex)
  forms.add(hex.toUpperCase())
  // How a Buffer is printed (`<Buffer 73 6b …>`) and how JSON writes one (`"data":[115,107,…]`).
  forms.add(hex.replace(/..(?=.)/g, '$& '))
  forms.add(bytes.join(','))
  return [...forms].map((form) => Buffer.from(form))
}

function base64At(bytes: Buffer, alignment: number): string {
  const blob = Buffer.concat([Buffer.alloc(alignment), bytes]).toString('base64')
  const first = Math.ceil((alignment * 8) / 6)
  const end = Math.floor(((alignment + bytes.length) * 8) / 6)
  return blob.slice(first, end)
}

/** Escapes of JSON (once, and in a string inside a string), of `util.inspect`, of HTML. */
function* escapesOf(value: string): Iterable<string> {
  const once = json(value)
  yield once
  yield json(once)
  yield json(json(once))
  // In single quotes, and in the quotes that need no escape because the text holds none of them.
  for (const inspected of [value.replace(/[\\']/g, '\\$&'), value.replaceAll('\\', '\\\\')]) {
    yield inspected
    yield json(inspected)
  }
  // PHP escapes the slash, Go `<>&`, Gson `=` and `'` too, .NET `+`, the backtick and the quote, Python what is not ASCII.
  yield once.replaceAll('/', '\\/')
  yield json(once.replaceAll('/', '\\/'))
  for (const set of [
    /[<>&]/,
    /[<>&=']/,
    /[<>&'+`"]/,
    /[<>&'+`=]/,
    /[^\x00-\x7f]/,
    /[<>&'+`"]|[^\x00-\x7f]/,
  ]) {
    for (const hex of [lower, upper])
      yield Array.from(value, (c) => (set.test(c) ? toUnicode(c, hex) : json(c))).join('')
  }
  const html = value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  yield html
  yield html.replaceAll('"', '&quot;')
  yield html.replaceAll('"', '&quot;').replaceAll("'", '&#39;')
  yield html.replaceAll('"', '&quot;').replaceAll("'", '&#x27;')
}

function* percentFormsOf(value: string): Iterable<string> {
  const component = encodeURIComponent(value)
  // RFC 3986 reserves `!'()*` too, which encodeURIComponent leaves.
  const strict = component.replace(/[!'()*]/g, toPercent)
  const form = new URLSearchParams([['', value]]).toString().slice(1)
  const whole = encodeURI(value)
  // Every byte, as nobody needs to and somebody does.
  const every = Buffer.from(value).toString('hex').toUpperCase().replace(/../g, '%$&')
  for (const encoded of [component, strict, form, whole, strict.replaceAll('~', '%7E'), every]) {
    yield encoded
    yield encoded.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase())
  }
  yield component.replaceAll('%20', '+')
  // A URL inside a query of a URL.
  yield encodeURIComponent(component)
  yield encodeURIComponent(strict)
}

function json(value: string): string {
  return JSON.stringify(value).slice(1, -1)
}

function toPercent(char: string): string {
  return `%${char.charCodeAt(0).toString(16).toUpperCase()}`
}

const lower = (hex: string) => hex
const upper = (hex: string) => hex.toUpperCase()

function toUnicode(char: string, hex: (digits: string) => string): string {
  let escapes = ''
  for (let i = 0; i < char.length; i++) {
    escapes += `\\u${hex(char.charCodeAt(i).toString(16).padStart(4, '0'))}`
  }
  return escapes
}
