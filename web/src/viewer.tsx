// Files that are open: igv.js on them once they are ready, and what to copy for other viewers.
import { useEffect, useRef } from 'preact/hooks'
import { effect, signal } from '@preact/signals'
import { NotReady, ready, type Progress } from '../client/gooseherd'
import { close, open, place } from './address'
import { catalogChanges, pathOf, refresh } from './jobs'
import { at, call, epoch, key, Problem, tell } from './service'

declare const IGV_FILE: string

interface TrackView {
  text: string
  spec: Spec | null
  notes: string[]
}
interface Spec {
  reference?: Reference
  locus?: string
  search?: unknown
  tracks: Track[]
}
interface Track {
  name: string
  url: string
}
interface Reference {
  format?: string
  fastaURL?: string
}
interface Browser {
  on(event: 'locuschange', act: () => void): void
  currentLoci(): string | string[]
  search(place: string): Promise<unknown>
  loadTrack(track: unknown): Promise<unknown>
  findTracks(test: (track: { config?: Track; url?: string }) => boolean): unknown[]
  removeTrack(track: unknown): void
}

/** How far each open file is: not there: not asked yet. */
const opening = signal<Record<string, { done: boolean; text: string; percent?: number; failed?: NotReady }>>({})
const notes = signal<string[]>([])
const trouble = signal('')

const set = (name: string, state: (typeof opening.value)[string]): void => {
  opening.value = { ...opening.value, [name]: state }
}

const waiting = new Map<string, AbortController>()

function wait(name: string, retry = false): void {
  waiting.get(name)?.abort()
  const stop = new AbortController()
  waiting.set(name, stop)
  set(name, { done: false, text: 'asked for' })
  const onProgress = (progress: Progress): void => set(name, { done: false, text: progress.text, percent: progress.percent })
  const headers = key.peek() ? { 'X-API-Key': key.peek() } : undefined
  ready(at(`data/${pathOf(name)}`), { signal: stop.signal, onProgress, retry, headers }).then(
    () => set(name, { done: true, text: 'ready' }),
    (error: unknown) => {
      if (stop.signal.aborted) return
      const failed = error instanceof NotReady ? error : new NotReady(name, 'failed', String(error), true)
      set(name, { done: false, text: failed.message, failed })
    },
  ).finally(refresh)
}

effect(() => {
  const wanted = new Set(open.value)
  for (const [name, stop] of waiting) {
    if (wanted.has(name)) continue
    stop.abort()
    waiting.delete(name)
    const { [name]: _, ...others } = opening.peek()
    opening.value = others
  }
  for (const name of wanted) if (!waiting.has(name)) wait(name)
})

let keyBefore = key.peek()
effect(() => {
  if (key.value === keyBefore) return
  keyBefore = key.value
  // What one key sees, another does not.
  open.peek().forEach(name => wait(name))
})

/** What is taken out while it is open: its tracks would have nothing to read at the next step. */
async function checkThere(name: string): Promise<void> {
  try {
    await call(`files/${pathOf(name)}`)
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404 || !opening.peek()[name]?.done) return
    const failed = new NotReady(name, 'not-found', 'is not in the catalog any more', false)
    set(name, { done: false, text: failed.message, failed })
  }
}

let checking: ReturnType<typeof setTimeout> | undefined
effect(() => {
  if (!catalogChanges.value) return
  // Once for many that come, as in an import.
  checking ??= setTimeout(() => {
    checking = undefined
    open.peek().filter(name => opening.peek()[name]?.done).forEach(name => void checkThere(name))
  }, 1000)
})

const query = (viewer: string, names: string[], where: string): string =>
  `tracks?${new URLSearchParams({ viewer, files: names.join(','), ...(where ? { at: where } : {}) })}`

// -- igv.js, one browser for all open files

let browser: Browser | undefined
/** What it was made for: the sequences, the key, and the element of the page. */
let reference = ''
let keyOfBrowser = ''
let boxOfBrowser: HTMLElement | undefined
let drawn = new Map<string, Track>()
let drawing: Promise<void> = Promise.resolve()

async function draw(box: HTMLElement, names: string[]): Promise<void> {
  const { spec, notes: found } = await call<TrackView>(query('igv', names, place.peek()))
  notes.value = found
  trouble.value = ''
  if (!spec?.reference) return
  const tracks = new Map(spec.tracks.map(track => [track.url, withKey(track)]))
  const fresh = JSON.stringify({ ...spec.reference, ...(spec.reference.format ? { fastaURL: '' } : {}) })
  const igv = (await import(/* a file of its own, loaded when first needed */ IGV_FILE)).default
  if (!box.isConnected) return
  if (browser && fresh === reference && keyOfBrowser === key.peek() && boxOfBrowser === box) {
    const shown = (url: string): unknown[] => browser!.findTracks(track => track.config?.url === url || track.url === url)
    for (const [url] of drawn) if (!tracks.has(url)) shown(url).forEach(track => browser!.removeTrack(track))
    for (const [url, track] of tracks) {
      if (drawn.has(url)) continue
      // One that fails, as when it is taken out meanwhile, may be there all the same: it is known, to be removed.
      drawn.set(url, track)
      try {
        await browser.loadTrack(track)
      } catch (error) {
        if (!shown(url).length) drawn.delete(url)
        throw error
      }
    }
  } else {
    forget(igv)
    const [used, made] = [key.peek(), await igv.createBrowser(box, {
      ...spec, reference: await readable(spec.reference), tracks: [...tracks.values()],
      // Nothing from other hosts: no list of genomes, and names are searched here.
      loadDefaultGenomes: false, search: spec.search ?? false, queryParametersSupported: false, showSVGButton: false,
    })] as [string, Browser]
    browser = made
    // Somebody looks at the jobs by now.
    if (!box.isConnected) return forget(igv)
    reference = fresh
    keyOfBrowser = used
    boxOfBrowser = box
    label(box)
    const wanted = place.peek(), shown = here()
    if (isElsewhere(wanted, shown)) tell(`${wanted} is no place here.`, true)
    browser.on('locuschange', () => {
      const now = here()
      if (now) place.value = now
    })
  }
  drawn = tracks
}

/** Files that are not public are for the key's owner. Redirected to another host, browsers leave this header out. */
const withKey = <T extends object>(what: T): T => (key.peek() ? { ...what, headers: { Authorization: `Bearer ${key.peek()}` } } : what)

/** igv.js asks for the lengths of sequences without headers. */
async function readable(wanted: Reference): Promise<Reference> {
  if (!key.peek() || wanted.format !== 'chromsizes' || !wanted.fastaURL) return withKey(wanted)
  const response = await fetch(wanted.fastaURL, { headers: { Authorization: `Bearer ${key.peek()}` } })
  if (!response.ok) throw new Error(`the lengths of the sequences cannot be read: HTTP ${response.status}`)
  return { ...wanted, fastaURL: URL.createObjectURL(await response.blob()) }
}

/** What igv.js leaves without a name for those who cannot see it. */
function label(box: HTMLElement): void {
  const names = { 'select': 'Sequence', '.igv-search-input': 'Place', 'input[type=range]': 'Zoom' }
  for (const [selector, name] of Object.entries(names)) {
    box.shadowRoot?.querySelectorAll(selector).forEach(one => one.setAttribute('aria-label', name))
  }
}

const here = (): string => {
  const loci = browser?.currentLoci()
  return written(Array.isArray(loci) ? loci.join(' ') : (loci ?? ''))
}

/** igv.js begins with another place when it does not know the sequence. One of another name may be the same (7, chr7). */
const isElsewhere = (wanted: string, shown: string): boolean => {
  const [name, range = ''] = wanted.replaceAll(',', '').split(':') as [string, string?]
  return LOCUS.test(wanted) && shown !== '' && !shown.startsWith(`${name}:`) && !shown.endsWith(`:${range}`)
}

/** Whole bases, without separators; empty before igv.js knows its place. */
const written = (loci: string): string =>
  loci.includes('undefined') ? '' : loci.replaceAll(',', '').replace(/\d+\.\d+/g, number => String(Math.round(Number(number))))

// Back and forward go to the place that the address had.
addEventListener('popstate', () => {
  if (browser && place.value) void browser.search(place.value).catch(() => undefined)
})

function forget(igv: { removeAllBrowsers(): void }): void {
  if (browser) igv.removeAllBrowsers()
  browser = undefined
  reference = ''
  drawn = new Map()
}

// -- to a place, or to a gene

interface Found { name: string; region: string; file: string; exact: boolean }
const found = signal<Found[]>([])
const LOCUS = /^[^\s:]+:[\d,]+(-[\d,]+)?$/

async function go(to: string): Promise<void> {
  found.value = []
  if (!(await browser?.search(to).catch(() => false))) tell(`${to} is no place here.`, true)
}

/** A locus as it is; else the name of a gene or another feature in the files that are open. */
async function goTo(text: string): Promise<void> {
  if (!text) return
  if (!browser) {
    // It begins there.
    if (LOCUS.test(text)) place.value = text.replaceAll(',', '')
    else tell('Names are looked for when a file is drawn.')
    return
  }
  if (LOCUS.test(text)) return go(text)
  const { results, pending } = await call<{ results: Found[]; pending: unknown[] }>(`search?${new URLSearchParams({ q: text, files: open.peek().slice(0, 20).join(',') })}`)
    .catch(() => ({ results: [], pending: [] }))
  const exact = results.filter(one => one.exact), first = exact[0] ?? results[0]
  if (first && (exact.length === 1 || results.length === 1)) return go(first.region)
  if (results.length) found.value = results.slice(0, 12)
  // A sequence's name alone is all of it.
  else if (pending.length) tell('The names of these files are being indexed: ask again in a moment.')
  else if (!(await browser.search(text).catch(() => false))) tell(`Nothing is called ${text} here.`)
}

function GoTo() {
  const submit = (event: Event): void => {
    event.preventDefault()
    const field = (event.target as HTMLFormElement).elements[0] as HTMLInputElement
    void goTo(field.value.trim())
  }
  return (
    <form class="goto" role="search" aria-label="Go to a place" onSubmit={submit}>
      <input aria-label="Place or gene" placeholder="chr7:1-1000, or a gene" maxLength={200} />
      <button type="submit">Go</button>
    </form>
  )
}

/** Of several that have the name. */
function Places() {
  if (!found.value.length) return null
  return (
    <ul class="opened" aria-label="Places of that name">
      {found.value.map(one => <li key={one.region + one.file}><button class="quiet" onClick={() => void go(one.region)}>{one.name} {one.region}</button></li>)}
      <li><button class="quiet" aria-label="Dismiss the places" onClick={() => (found.value = [])}>✕</button></li>
    </ul>
  )
}

function Igv() {
  const box = useRef<HTMLDivElement>(null)
  const there = open.value.filter(name => opening.value[name]?.done)
  const names = there.join(',')
  useEffect(() => {
    if (!names) return
    // One after the other: each compares with what is drawn then.
    drawing = drawing
      .then(() => (box.current && names === open.peek().filter(name => opening.peek()[name]?.done).join(',') ? draw(box.current, names.split(',')) : undefined))
      .catch((error: unknown) => {
        trouble.value = error instanceof Error ? error.message : String(error)
      })
  }, [names, epoch.value])
  useEffect(() => () => {
    if (browser) void import(IGV_FILE).then(module => forget(module.default))
  }, [])
  return <div class="igv" ref={box} hidden={!names} />
}

// -- what to copy

const TABS: Record<string, string> = { gosling: 'Gosling', igv: 'igv.js', jbrowse: 'JBrowse', ucsc: 'UCSC', shell: 'Shell', python: 'Python' }
const tab = signal<string | null>(null)
const snippet = signal<{ text: string; notes: string[] } | null>(null)
let snippetTurn = 0
effect(() => {
  const viewer = tab.value, names = open.value, where = place.value
  void epoch.value
  const turn = ++snippetTurn
  if (!viewer || !names.length) {
    snippet.value = null
    return
  }
  // Panning changes the place many times a second.
  setTimeout(() => {
    if (turn !== snippetTurn) return
    call<TrackView>(query(viewer, names, where)).then(
      found => turn === snippetTurn && (snippet.value = found),
      (error: Error) => turn === snippetTurn && (snippet.value = { text: '', notes: [error.message] }),
    )
  }, 250)
})

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    // Over plain http there is no clipboard: the old way, from a field.
    const field = document.createElement('textarea')
    field.value = text
    document.body.append(field)
    field.select()
    document.execCommand('copy')
    field.remove()
  }
  tell('Copied.')
}

function Snippets() {
  const shown = tab.value
  const keys = (event: KeyboardEvent): void => {
    const names = Object.keys(TABS), here = names.indexOf(shown ?? '')
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0
    if (!step) return
    event.preventDefault()
    const next = names[(here + step + names.length) % names.length]!
    tab.value = next
    document.getElementById(`tab-${next}`)?.focus()
  }
  return (
    <section class="snippets" aria-label="Use these files elsewhere">
      <div class="bar">
        <span class="dim">Use in</span>
        <div role="tablist" aria-label="Viewers" onKeyDown={keys}>
          {Object.entries(TABS).map(([id, title], number) => (
            <button key={id} role="tab" id={`tab-${id}`} aria-selected={shown === id} {...(shown === id ? { 'aria-controls': 'snippet' } : {})}
              tabIndex={shown === id || (!shown && !number) ? 0 : -1} onClick={() => (tab.value = shown === id ? null : id)}>
              {title}
            </button>
          ))}
        </div>
        {snippet.value?.text && <button onClick={() => void copy(snippet.value!.text)}>Copy</button>}
      </div>
      {shown && (
        <div role="tabpanel" id="snippet" aria-labelledby={`tab-${shown}`}>
          {snippet.value?.notes.map(note => <p class="note" key={note}>{note}</p>)}
          {snippet.value?.text && <pre tabIndex={0} aria-label={`Text for ${TABS[shown]}`}>{snippet.value.text}</pre>}
        </div>
      )}
    </section>
  )
}

export function Viewer() {
  const names = open.value
  if (!names.length) return null
  return (
    <section class="viewer" aria-label="Viewer">
      <div class="opening">
      <ul class="opened" aria-label="Open files">
        {names.map(name => {
          const state = opening.value[name]
          return (
            <li key={name}>
              <span class="name">{name}</span>
              {!state?.done && !state?.failed && (
                <span class="live"><progress max={100} value={state?.percent ?? 0} aria-label={`Progress of ${name}`} /> {state?.text ?? '…'}</span>
              )}
              {state?.failed && <span class="bad" role="alert">{state.text}</span>}
              {state?.failed && <button onClick={() => wait(name, true)}>Retry</button>}
              <button class="quiet" aria-label={`Close ${name}`} title="Close" onClick={() => close(name)}>✕</button>
            </li>
          )
        })}
        {names.length > 1 && <li><button class="quiet" onClick={() => { open.value = []; place.value = '' }}>Close all</button></li>}
      </ul>
      <GoTo />
      </div>
      <Places />
      {trouble.value && <p class="bad" role="alert">{trouble.value}</p>}
      {notes.value.map(note => <p class="note" key={note}>{note}</p>)}
      <Igv />
      <Snippets />
    </section>
  )
}
