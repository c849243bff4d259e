// Requests to the service that this page came from: its key, its problems, whether it answers.
import { batch, computed, effect, signal } from '@preact/signals'

/** Where the service is, whatever path a proxy shows it under. */
export const BASE = new URL('.', document.baseURI)
export const at = (path: string): string => String(new URL(path, BASE))

/** What the service says when it refuses (RFC 9457), or that it cannot be reached. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    detail: string,
    readonly retryable: boolean,
  ) {
    super(detail || title)
  }
}

/** A text that the browser keeps; one whose cookies are switched off keeps none. */
export function kept(where: 'sessionStorage' | 'localStorage', name: string): string {
  try {
    return window[where].getItem(name) ?? ''
  } catch {
    return ''
  }
}

export function keep(where: 'sessionStorage' | 'localStorage', name: string, text: string): void {
  try {
    if (text) window[where].setItem(name, text)
    else window[where].removeItem(name)
  } catch {
    // No room, or not allowed: it lasts while the page is open.
  }
}

const KEY = 'gooseherd-key'
/** Of the admin, or one's own; for this tab only. */
export const key = signal(kept('sessionStorage', KEY))
effect(() => keep('sessionStorage', KEY, key.value))

/** Set while somebody has to be asked for the key; called with it, or with null. */
export const asking = signal<{ needed: boolean; wrong: boolean; answer: (given: string | null) => void } | null>(null)

/** Another key, or none: what is shown has to be read again. */
export function useKey(given: string): void {
  if (given === key.value) return
  declined = false
  batch(() => {
    key.value = given
    epoch.value += 1
  })
}

/** Somebody has one, though nothing asked for it: without it what is not public is as if it were not there. */
export async function giveKey(): Promise<void> {
  const given = await askForKey(false)
  if (given) useKey(given)
}

const awayTimes = signal(0)
/** Whether the service answered the last request. */
export const away = computed(() => awayTimes.value > 0)
/** Counts the times it came back, or the key changed: what is shown has to be read again. */
export const epoch = signal(0)

export interface Call {
  method?: string
  /** Sent as JSON; bytes as they are. */
  body?: unknown
  signal?: AbortSignal
  headers?: Record<string, string>
}

const headersOf = (call: Call): Record<string, string> => ({
  Accept: 'application/json',
  ...(call.body === undefined || call.body instanceof Blob ? {} : { 'Content-Type': 'application/json' }),
  ...(key.value ? { 'X-API-Key': key.value } : {}),
  ...call.headers,
})

/** The response as JSON; asks for the key where one is needed. Rejects with a Problem, or when `signal` aborts. */
export const call = async <T>(path: string, options: Call = {}): Promise<T> => (await answer(path, options)).json() as Promise<T>

/** The same with the response itself. */
export async function answer(path: string, options: Call = {}): Promise<Response> {
  for (;;) {
    const used = key.value
    const response = await send(path, options)
    if (response.ok) return response
    const problem = await problemOf(response)
    if (response.status === 401 && key.value !== used) continue
    // What the page reads by itself asks once, and not again after a no.
    if (response.status !== 401 || (declined && !options.method)) throw problem
    const given = await askForKey(true)
    if (given !== null) {
      useKey(given)
      continue
    }
    // One that is refused, such as one that has ended, would have refused what needs none, too.
    useKey('')
    declined = true
    if (!used || options.method) throw problem
  }
}

async function send(path: string, options: Call, redirect: RequestRedirect = 'follow'): Promise<Response> {
  let response: Response
  try {
    response = await fetch(at(path), {
      method: options.method ?? 'GET', headers: headersOf(options), cache: 'no-store', redirect,
      ...(options.body === undefined ? {} : { body: options.body instanceof Blob ? options.body : JSON.stringify(options.body) }),
      ...(options.signal ? { signal: options.signal } : {}),
    })
  } catch (error) {
    options.signal?.throwIfAborted()
    lost()
    throw new Problem(0, 'The service does not answer', String(error), true)
  }
  // A proxy's, not ours: ours say what is wrong as JSON.
  if ([502, 503, 504].includes(response.status) && !response.headers.get('Content-Type')?.includes('json')) lost()
  else found()
  return response
}

async function problemOf(response: Response): Promise<Problem> {
  const body = await response.json().catch(() => ({}))
  const detail = body.reason_detail ?? body.detail ?? ''
  return new Problem(response.status, body.title ?? `HTTP ${response.status}`, detail, body.retryable ?? response.status >= 500)
}

let declined = false
let asked: Promise<string | null> | undefined

/** One question for all who wait for its answer. */
const askForKey = (needed: boolean): Promise<string | null> =>
  (asked ??= new Promise(resolve => {
    asking.value = {
      needed, wrong: needed && Boolean(key.value),
      answer: given => {
        asking.value = null
        asked = undefined
        resolve(given)
      },
    }
  }))

/** Begin to make what is at `path`: the job's id, or null when it is ready. */
export async function begin(path: string): Promise<string | null> {
  const response = await send(path, { headers: { Range: 'bytes=0-0' } }, 'manual')
  if (response.status === 202) return ((await response.json()) as { job_id: string }).job_id
  // A redirect: its bytes are elsewhere. 416: it has none.
  if (!response.ok && response.type !== 'opaqueredirect' && response.status !== 416) throw await problemOf(response)
  void response.body?.cancel()
  return null
}

let looking: ReturnType<typeof setTimeout> | undefined
const LOOK_MS = 2000

function found(): void {
  if (!awayTimes.value) return
  awayTimes.value = 0
  clearTimeout(looking)
  looking = undefined
  epoch.value += 1
}

function lost(): void {
  awayTimes.value += 1
  looking ??= setTimeout(() => {
    looking = undefined
    if (away.value) void send('healthz', {}).catch(() => undefined)
  }, LOOK_MS)
}

/** A ping comes every 15 seconds: a connection that is silent for longer is gone. */
const SILENCE_MS = 45_000

/** Events of a stream, each with its name and its data as JSON, until it is aborted; goes on behind the last one after a break.
 *
 * With fetch, because an EventSource sends no key. Rejects when the service refuses it.
 */
export async function follow(path: string, onEvent: (name: string, data: unknown) => void, signal: AbortSignal): Promise<void> {
  for (let last = ''; !signal.aborted; ) {
    const stop = new AbortController()
    const abort = (): void => stop.abort()
    signal.addEventListener('abort', abort)
    let silence: ReturnType<typeof setTimeout> | undefined
    try {
      const response = await send(path, { signal: stop.signal, headers: { Accept: 'text/event-stream', ...(last ? { 'Last-Event-ID': last } : {}) } })
      if (!response.ok || !response.body) {
        const problem = await problemOf(response)
        if (!problem.retryable) throw problem
        await new Promise(resolve => setTimeout(resolve, 10_000))
      } else {
        let text = ''
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
        for (;;) {
          clearTimeout(silence)
          silence = setTimeout(abort, SILENCE_MS)
          const { value, done } = await reader.read()
          if (done) break
          text += value.replaceAll('\r', '')
          const parts = text.split('\n\n')
          text = parts.pop() ?? ''
          for (const part of parts) {
            const lines = part.split('\n')
            const of = (name: string): string => lines.filter(line => line.startsWith(`${name}:`)).map(line => line.slice(name.length + 1).trimStart()).join('\n')
            last = of('id') || last
            if (of('data')) onEvent(of('event'), JSON.parse(of('data')))
          }
        }
      }
    } catch (error) {
      if (!signal.aborted && error instanceof Problem && !error.retryable) throw error
    } finally {
      clearTimeout(silence)
      signal.removeEventListener('abort', abort)
    }
    if (!signal.aborted) await new Promise(resolve => setTimeout(resolve, 1000))
  }
}

/** One short message for everybody, such as what could not be done. */
export const notice = signal<{ text: string; bad: boolean } | null>(null)
let fading: ReturnType<typeof setTimeout> | undefined

export function tell(text: string, bad = false): void {
  notice.value = { text, bad }
  clearTimeout(fading)
  if (!bad) fading = setTimeout(() => (notice.value = null), 6000)
}

/** Do it, and say what went wrong. */
export async function trying<T>(doing: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') return undefined
    const title = error instanceof Problem && error.title !== error.message ? `${error.title}: ` : ''
    tell(`${doing}: ${title}${error instanceof Error ? error.message : error}`, true)
    return undefined
  }
}
