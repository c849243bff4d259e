/**
 * Tells a page when files of a gooseherd service are ready, and what a viewer needs to draw them. For progress, not for
 * necessity: a viewer's own requests are held by the service until the bytes are there.
 */

/** Of this interface; `/static/gooseherd-1.js` stays with the 1. */
export const version = '1.0.0' as string

/** How far the work on one file is. */
export interface Progress {
  /** The address that was asked for. */
  url: string
  /** `unreachable`: the service does not answer just now, and is asked again. */
  status: 'pending' | 'running' | 'finalizing' | 'completed' | 'unreachable'
  /** Of the whole job, 0 to 100; it never falls. */
  percent: number
  /** In words: its place in the queue, or its step. */
  text: string
  /** Jobs before it in the queue, where that is known. */
  position: number | null
  eta_seconds: number | null
  job_id: string | null
}

/** What `ready` and `track` may be given. */
export interface Options {
  /** Ends the waiting; the work goes on. */
  signal?: AbortSignal | undefined
  /** Sent with each request, such as a key. With any of them browsers ask for permission first (CORS preflight). */
  headers?: Record<string, string> | undefined
}

export interface ReadyOptions extends Options {
  onProgress?: ((progress: Progress) => void) | undefined
  /** Try again what failed a moment ago. */
  retry?: boolean | undefined
}

export interface TrackOptions extends Options {
  /** Address of the service; unset: where this script was loaded from. */
  base?: string | URL | undefined
}

/** A job as `GET /jobs/{id}` gives it, as far as it is read here. */
export interface Job {
  job_id: string
  status: 'pending' | 'running' | 'finalizing' | 'completed' | 'failed' | 'cancelled'
  position?: number | null
  waiting?: { reason: string; detail: string; next_try_seconds?: number | null } | null
  progress: { step: string; percent: number; eta_seconds: number | null }
  reason?: string | null
  detail?: string
  retryable?: boolean
}

/** A file that does not become ready: its work failed or was cancelled, or the service refuses it. */
export class NotReady extends Error {
  override name = 'NotReady'
  constructor(
    readonly url: string,
    /** Of the closed list of reasons, or the last word of the problem's type. */
    readonly reason: string,
    detail: string,
    /** Whether a new try may end better. */
    readonly retryable: boolean,
    readonly job_id: string | null = null,
  ) {
    super(detail || reason)
  }
}

const LEAST_MS = 500
const MOST_MS = 5000

/** Resolves when each address answers bytes; starts the work where need be and joins what is under way.
 *
 * Restarts of the service and interruptions of the network are waited out; end that with `signal`.
 * Rejects with `NotReady`, or with the signal's reason.
 */
export async function ready(urls: string | URL | Iterable<string | URL>, options: ReadyOptions = {}): Promise<void> {
  const jobs = new Map<string, { end: Promise<Job | null>; told: Set<(progress: Progress) => void> }>()
  const list = typeof urls === 'string' || urls instanceof URL ? [urls] : [...urls]
  await Promise.all(
    list.map(async one => {
      const url = String(one)
      const tell = (progress: Progress): void => options.onProgress?.({ ...progress, url })
      for (let retry = options.retry ?? false, tries = 0; ; ) {
        let response: Response
        try {
          response = await fetch(once(url, retry), {
            // One byte; a redirect means that it is ready elsewhere.
            headers: { Range: 'bytes=0-0', ...options.headers }, redirect: 'manual', cache: 'no-store', signal: options.signal ?? null,
          })
        } catch {
          options.signal?.throwIfAborted()
          tell({ url, status: 'unreachable', percent: 0, text: AWAY, position: null, eta_seconds: null, job_id: null })
          await pause(tries++, options.signal)
          continue
        }
        const body = response.status === 202 || PASSING.includes(response.status) ? await response.json().catch(() => ({})) : {}
        if (body.job_id) {
          // By /data a 202, by its name a 503: it is being made.
          retry = false
          tries = 0
          const address = body.job_url ?? String(new URL(`jobs/${body.job_id}`, serviceOf(url)))
          let following = jobs.get(address)
          if (!following) {
            const told = new Set<(progress: Progress) => void>()
            following = { told, end: follow(address, options, progress => told.forEach(each => each(progress))) }
            jobs.set(address, following)
          }
          following.told.add(tell)
          const ended = await following.end
          jobs.delete(address)
          if (ended && ended.status !== 'completed') {
            const reason = ended.reason ?? ended.status
            throw new NotReady(url, reason, ended.detail ?? '', ended.retryable ?? false, ended.job_id)
          }
          continue
        }
        // 416: there, and empty.
        if (response.type === 'opaqueredirect' || response.ok || response.status === 416) {
          void response.body?.cancel()
          return
        }
        if (PASSING.includes(response.status)) {
          await pause(tries++, options.signal, Number(response.headers.get('Retry-After')))
          continue
        }
        throw await refusal(response, url)
      }
    }),
  )
}

/** What `viewer` (`gosling`, `igv`, `jbrowse`, `ucsc`, `shell`, `python`) needs for the file `id` (`DCC/ID`): a
 * specification as data where it reads such, else a text. */
export async function track(viewer: string, id: string, options: TrackOptions = {}): Promise<unknown> {
  const base = options.base ?? new URL('..', import.meta.url)
  const path = id.split('/').map(encodeURIComponent).join('/')
  const url = new URL(`files/${path}/tracks?viewer=${encodeURIComponent(viewer)}`, base)
  const response = await fetch(url, { ...(options.headers && { headers: options.headers }), signal: options.signal ?? null })
  if (!response.ok) throw await refusal(response, String(url))
  const { spec, text } = await response.json()
  return spec ?? text
}

/** Where a job stands, in words. */
export function describe(job: Job): string {
  const { waiting, progress, position } = job
  switch (job.status) {
    case 'pending':
      if (waiting && waiting.reason !== 'queued') return after(waiting.detail, waiting.next_try_seconds)
      return position ? `${position} before it` : position === 0 ? 'next in the queue' : 'in the queue'
    case 'running':
      if (waiting?.reason === 'launching') return 'starting a worker'
      if (waiting) return after(waiting.detail, waiting.next_try_seconds)
      return `${progress.step || 'starting'} ${Math.round(progress.percent)} %${left(progress.eta_seconds)}`
    case 'finalizing':
      return 'verifying'
    case 'completed':
      return 'ready'
    default:
      return job.detail || job.reason ? `${job.status}: ${job.detail || job.reason}` : job.status
  }
}

const AWAY = 'the service does not answer'
const PASSING = [408, 429, 500, 502, 503, 504]
const ENDED = ['completed', 'failed', 'cancelled']

const span = (seconds: number): string =>
  seconds < 90 ? `${Math.ceil(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`
const left = (seconds: number | null): string => (seconds ? `, ${span(seconds)} left` : '')
const after = (detail: string, seconds: number | null | undefined): string =>
  seconds ? `${detail}; next try in ${span(seconds)}` : detail

/** The address, with the wish not to be held. */
const once = (url: string, retry: boolean): string => {
  const to = new URL(url, globalThis.document?.baseURI)
  to.searchParams.set('wait', '0')
  if (retry) to.searchParams.set('retry', 'true')
  return String(to)
}

/** The service's own address in front of a file's. */
const serviceOf = (url: string): URL => {
  const to = new URL(url, globalThis.document?.baseURI)
  to.pathname = to.pathname.replace(/(?:files|data|index|density)\/.*$/, '')
  to.search = to.hash = ''
  return to
}

const pause = (tries: number, signal: AbortSignal | undefined, seconds = 0): Promise<void> =>
  new Promise((resolve, reject) => {
    const ms = seconds > 0 ? Math.min(seconds, 60) * 1000 : Math.min(LEAST_MS * 2 ** tries, MOST_MS)
    const stop = (): void => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    if (signal?.aborted) stop()
    else signal?.addEventListener('abort', stop, { once: true })
  })

/** The job when it has ended; null when the service knows it no more. */
const follow = async (url: string, options: Options, tell: (progress: Progress) => void): Promise<Job | null> => {
  let known = { url, percent: 0, position: null, eta_seconds: null, job_id: null } as Omit<Progress, 'status' | 'text'>
  for (let tries = 0; ; ) {
    try {
      const response = await fetch(url, { ...(options.headers && { headers: options.headers }), cache: 'no-store', signal: options.signal ?? null })
      if (response.status === 404) return null
      if (!response.ok) throw new Error(response.statusText)
      const job: Job = await response.json()
      const { percent, eta_seconds } = job.progress
      known = { url, percent, eta_seconds, position: job.position ?? null, job_id: job.job_id }
      if (job.status !== 'failed' && job.status !== 'cancelled') tell({ ...known, status: job.status, text: describe(job) })
      if (ENDED.includes(job.status)) return job
      tries = 0
      await pause(1, options.signal)
    } catch {
      options.signal?.throwIfAborted()
      tell({ ...known, status: 'unreachable', text: AWAY })
      await pause(tries++, options.signal)
    }
  }
}

const refusal = async (response: Response, url: string): Promise<NotReady> => {
  const problem = await response.json().catch(() => ({}))
  const reason = problem.reason ?? String(problem.type ?? `http-${response.status}`).split('/').pop()
  const detail = problem.reason_detail ?? problem.detail ?? problem.title ?? ''
  return new NotReady(url, reason, detail, problem.retryable ?? false, problem.job_id ?? null)
}

/** `<gooseherd-progress src="URL URL">`: a bar and words while files are made; events `ready` and `failed`. */
const define = (): void => {
  customElements.define(
    'gooseherd-progress',
    class extends HTMLElement {
      static observedAttributes = ['src']
      #stop: AbortController | undefined

      connectedCallback(): void {
        this.#begin()
      }

      disconnectedCallback(): void {
        this.#stop?.abort()
      }

      attributeChangedCallback(): void {
        if (this.isConnected) this.#begin()
      }

      #begin(): void {
        this.#stop?.abort()
        const stop = (this.#stop = new AbortController())
        const urls = (this.getAttribute('src') ?? '').split(/\s+/).filter(Boolean)
        const root = this.shadowRoot ?? this.attachShadow({ mode: 'open' })
        const bar = document.createElement('progress'), text = document.createElement('span')
        bar.max = 100 * urls.length
        bar.setAttribute('part', 'bar')
        bar.setAttribute('aria-label', 'progress')
        text.setAttribute('part', 'text')
        text.setAttribute('role', 'status')
        root.replaceChildren(bar, ' ', text)
        const percents = new Map<string, number>()
        const show = (progress: Progress): void => {
          if (stop.signal.aborted) return
          percents.set(progress.url, Math.max(progress.percent, percents.get(progress.url) ?? 0))
          bar.value = [...percents.values()].reduce((sum, each) => sum + each, 0)
          text.textContent = progress.text
        }
        ready(urls, { signal: stop.signal, onProgress: show }).then(
          () => {
            if (stop.signal.aborted) return
            bar.value = bar.max
            text.textContent = 'ready'
            this.dispatchEvent(new CustomEvent('ready'))
          },
          (error: unknown) => {
            if (stop.signal.aborted) return
            bar.remove()
            text.textContent = `failed: ${error instanceof Error ? error.message : error}`
            this.dispatchEvent(new CustomEvent('failed', { detail: error }))
          },
        )
      }
    },
  )
}
if (globalThis.customElements && !customElements.get('gooseherd-progress')) define()
