// The list of files: pages of the catalog, read ahead of who scrolls; or of jobs, where a state is asked for.
import { effect, signal } from '@preact/signals'
import { filter, type Filter } from './address'
import { nameOf, notice, onCatalog, type Entry, type ServiceJob } from './jobs'
import { call, epoch, Problem } from './service'

export interface Row {
  name: string
  dcc: string
  local_id: string
  filename: string
  format: string
  size: number | null
}
export const STATES: Record<string, string> = {
  running: 'being made', pending: 'in the queue', completed: 'made', failed: 'failed', cancelled: 'cancelled',
}

/** All that is loaded, in order; it only grows while the filter stays. `count` changes when it does. */
export let rows: Row[] = []
export const count = signal(0)
/** Changes with what is in `rows`. */
export const changed = signal(0)
export const more = signal(true)
export const loading = signal(false)
export const failed = signal('')
/** Collections that were seen, for who chooses one. */
export const collections = signal<string[]>([])

const PAGE = 200
/** What fills a screen is there first. */
const FIRST_PAGE = 60
const AGAIN_MS = 3000
let after: string | null = null
let turn = 0
let stop = new AbortController()
let seen = new Set<string>()
let stale = false

/** Read on until `wanted` rows are there, or no more. */
export async function load(wanted: number): Promise<void> {
  if (loading.value || !more.value || (rows.length >= wanted && !stale)) return
  const mine = turn, { signal } = stop
  loading.value = true
  try {
    while (mine === turn && more.value && (rows.length < wanted || stale)) {
      const found = await page(filter.peek(), signal)
      if (mine !== turn) return
      if (stale) rows = []
      stale = false
      rows.push(...found)
      changed.value += 1
      count.value = rows.length
      collect(found)
    }
    failed.value = ''
  } catch (error) {
    if (mine !== turn || signal.aborted) return
    failed.value = error instanceof Problem ? error.message : String(error)
    // A store that does not answer just now. When it is the service that does not, `epoch` begins anew.
    if (error instanceof Problem && error.retryable && error.status) setTimeout(() => mine === turn && void load(wanted), AGAIN_MS)
  } finally {
    if (mine === turn) loading.value = false
  }
}

async function page(wanted: Filter, signal: AbortSignal): Promise<Row[]> {
  const query = new URLSearchParams({ limit: String(after === null && !wanted.state ? FIRST_PAGE : PAGE) })
  const put = (name: string, value: string | null): void => {
    if (value) query.set(name, value)
  }
  put('after', after)
  put('dcc', wanted.dcc)
  if (!wanted.state) {
    put('q', wanted.q.trim())
    put('format', wanted.format)
    const found = await call<{ files: Entry[]; next: string | null }>(`files?${query}`, { signal })
    after = found.next
    more.value = after !== null
    found.files.forEach(notice)
    return found.files.map(file => row(file))
  }
  put('status', wanted.state)
  const found = await call<{ jobs: ServiceJob[]; next: string | null }>(`jobs?${query}`, { signal })
  after = found.next
  more.value = after !== null
  // The same words as in the catalog's search: each is the start of an id or of a word of the name.
  const starts = wanted.q.toLowerCase().split(' ').filter(Boolean)
  const words = (job: ServiceJob): string[] => [job.local_id, ...job.filename.split(/[^A-Za-z0-9]+/)].map(word => word.toLowerCase())
  return found.jobs
    .filter(job => !wanted.format || job.file_format === wanted.format.toLowerCase())
    .filter(job => starts.every(start => words(job).some(word => word.startsWith(start))))
    .filter(job => !seen.has(nameOf(job)) && seen.add(nameOf(job)))
    .map(job => row({ ...job, size_in_bytes: null }))
}

const row = (file: Pick<Entry, 'dcc' | 'local_id' | 'filename' | 'file_format' | 'size_in_bytes'>): Row => ({
  name: nameOf(file), dcc: file.dcc, local_id: file.local_id, filename: file.filename, format: file.file_format, size: file.size_in_bytes,
})

function collect(found: Row[]): void {
  const news = new Set(found.map(one => one.dcc))
  collections.value.forEach(one => news.delete(one))
  if (news.size) collections.value = [...collections.value, ...news].sort()
}

/** From the top: another filter, a new file, a service that came back. What is shown stays until there is an answer. */
export function reload(): void {
  turn += 1
  stop.abort()
  stop = new AbortController()
  stale = true
  seen = new Set()
  after = null
  more.value = true
  loading.value = false
  outdated.value = false
  void load(FIRST_PAGE)
}

/** The catalog has changed since the list was read. Who has scrolled on decides when it is read again. */
export const outdated = signal(false)
onCatalog.act = () => {
  if (rows.length <= FIRST_PAGE + PAGE && !document.querySelector('.scroll')?.scrollTop) reload()
  else outdated.value = true
}

let typing: ReturnType<typeof setTimeout> | undefined
let first = true
effect(() => {
  void filter.value
  void epoch.value
  clearTimeout(typing)
  if (first) reload()
  else typing = setTimeout(reload, 150)
  first = false
})
