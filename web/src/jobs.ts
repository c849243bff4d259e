// What is known of the work: jobs and the queue, asked for again while anything moves; and where each file stands.
import { computed, effect, signal } from '@preact/signals'
import { describe, type Job } from '../client/gooseherd'
import { begin, call, epoch, follow, key, Problem, tell, trying } from './service'

export interface ServiceJob extends Job {
  dcc: string
  local_id: string
  filename: string
  file_format: string
  created_at: string
  started_at: string | null
  finished_at: string | null
  attempt: number
  processor: string
}
/** An entry of the catalog, as far as it is read here. */
export interface Entry {
  dcc: string
  local_id: string
  filename: string
  file_format: string
  size_in_bytes: number | null
  /** null: the service does not know yet. */
  ready: boolean | null
  job: ServiceJob | null
  problem: string | null
}
export interface Queue {
  pending: number
  running: number
  finalizing: number
  pending_by_priority: Record<string, number>
  oldest_seconds: number | null
  wait_seconds: { p50: number | null; p95: number | null }
}
export interface Batch {
  batch_id: string
  status: string
  total: number
  percent: number
  counts: Record<string, number>
  created_at: string
  failures?: { dcc: string; local_id: string; reason: string; detail: string }[] | null
}

export const nameOf = (file: { dcc: string; local_id: string }): string => `${file.dcc}/${file.local_id}`
export const pathOf = (name: string): string => name.split('/').map(encodeURIComponent).join('/')
export const isLive = (job: Pick<Job, 'status'>): boolean => ['pending', 'running', 'finalizing'].includes(job.status)

/** The newest jobs first, as the list has them. */
export const newest = signal<ServiceJob[]>([])
export const queue = signal<Queue | null>(null)
const byId = new Map<string, ServiceJob>()
const byFile = new Map<string, ServiceJob>()
/** What the list or an entry said of a file. */
const asked = new Map<string, { ready: boolean; job: string | null; refused?: string; time: number }>()
/** When the file's job was last seen to move: what was asked before that is old when it is answered. */
const changedAt = new Map<string, number>()
/** Changes with each of the three. */
export const known = signal(0)

const MOST_JOBS = 100
export const NAMES = 'names'
const FRESH_MS = 60_000
/** After "not known yet". */
const AGAIN_MS = 1500
const AT_ONCE = 4

/** Jobs that were begun from here, until they end: said then, for those who do not see the row. */
const mine = new Set<string>()
export const ended = signal('')

/** By the clock: a whole second is written without a fraction, so as texts they have another order. */
const isEarlier = (one: {created_at: string}, other: {created_at: string}): boolean =>
  Date.parse(one.created_at) < Date.parse(other.created_at)

function learn(job: ServiceJob): void {
  byId.set(job.job_id, { ...byId.get(job.job_id), ...job })
  // An index of names is made beside what the file itself becomes.
  if (job.processor === NAMES) return
  const name = nameOf(job), before = byFile.get(name)
  if (!before || !isEarlier(job, before)) {
    // A job that has just ended says more of the file than what was asked before.
    if (before?.status !== job.status) {
      asked.delete(name)
      changedAt.set(name, Date.now())
    }
    byFile.set(name, byId.get(job.job_id)!)
    if (!isLive(job) && mine.delete(job.job_id)) ended.value = job.status === 'completed' ? `${name} is ready` : `${name}: ${describe(job)}`
  }
}

/** Where a file stands, in words. */
export interface Standing {
  kind: 'unknown' | 'none' | 'live' | 'ready' | 'failed' | 'refused'
  text: string
  percent?: number
  job?: ServiceJob
}

export function standing(name: string): Standing {
  void known.value
  const answer = asked.get(name)
  if (answer?.refused) return { kind: 'refused', text: answer.refused }
  // Not one before it: what failed and is tried again has not failed.
  const job = answer?.job ? byId.get(answer.job) : byFile.get(name)
  if (job && isLive(job)) return { kind: 'live', text: describe(job), percent: job.progress.percent, job }
  if (answer?.ready) return { kind: 'ready', text: 'ready', ...(job ? { job } : {}) }
  if (job?.status === 'failed') return { kind: 'failed', text: job.detail || job.reason || 'failed', job }
  if (job?.status === 'completed' && (!answer || answer.job === job.job_id)) return { kind: 'ready', text: 'ready', job }
  if (answer?.job && !byId.has(answer.job)) return { kind: 'live', text: 'being prepared' }
  return answer || job ? { kind: 'none', text: 'not prepared' } : { kind: 'unknown', text: '…' }
}

// -- asking about the files that are seen

let visible: string[] = []
const asking = new Set<string>()

/** The files that somebody looks at now. */
export function look(names: string[]): void {
  visible = names
  ask()
}

function ask(): void {
  const now = Date.now()
  while (asking.size < AT_ONCE) {
    const name = visible.find(one => {
      const answer = asked.get(one)
      return !asking.has(one) && (!answer || (now - answer.time > FRESH_MS && !answer.refused))
    })
    if (name === undefined) return
    asking.add(name)
    void call<Entry>(`files/${pathOf(name)}`)
      .then(
        entry => {
          if ((changedAt.get(name) ?? 0) < now) notice(entry)
        },
        problem => {
          if (!problem.retryable) asked.set(name, { ready: false, job: null, refused: problem.title, time: now })
          // Else with the next look.
          visible = visible.filter(one => one !== name)
        },
      )
      .then(() => {
        asking.delete(name)
        known.value += 1
        ask()
      })
  }
}

/** The service said how a file stands. */
export function notice(entry: Entry): void {
  const name = nameOf(entry), { ready, job, problem } = entry
  if (job) {
    const before = byId.get(job.job_id)
    // What an event said since is newer; names are the file's own, which another one's job has not.
    if (!before || isLive(before)) byId.set(job.job_id, { ...before, ...job, dcc: entry.dcc, local_id: entry.local_id, filename: entry.filename })
  }
  const time = ready === null ? Date.now() - FRESH_MS + AGAIN_MS : Date.now()
  asked.set(name, { ready: ready ?? false, job: job?.job_id ?? null, time, ...(problem ? { refused: problem } : {}) })
  if (ready === null) setTimeout(ask, AGAIN_MS + 100)
}

/** Files became ready, perhaps without a job of their own: what was told of those that were not is old. */
function askAgain(): void {
  const now = Date.now()
  for (const [name, answer] of asked) {
    if (answer.ready || answer.refused) continue
    asked.delete(name)
    changedAt.set(name, now)
  }
  known.value += 1
  ask()
}

// -- what the service says

/** Registered or removed entries: called when there were some. */
export const onCatalog: { act: () => void } = { act: () => undefined }

/** Read what is shown: at the beginning, and when events were missed. */
async function readAll(): Promise<void> {
  try {
    const [list, numbers] = await Promise.all([call<{ jobs: ServiceJob[] }>(`jobs?limit=${MOST_JOBS}`), call<Queue>('queue')])
    list.jobs.toReversed().forEach(learn)
    queue.value = numbers
    newest.value = list.jobs.map(job => byId.get(job.job_id) ?? job)
    known.value += 1
    ask()
    await readPlaces()
    const active = batches.peek().filter(batch => batch.status === 'active')
    await Promise.all(active.map(batch => call<Batch>(`batches/${batch.batch_id}`).then(heardOfBatch, () => undefined)))
  } catch (error) {
    // A store that does not answer just now. When it is the service that does not, the banner says so, and `epoch` begins anew.
    if (error instanceof Problem && error.retryable && error.status) setTimeout(() => void readAll(), 5000)
  }
}

let places: ReturnType<typeof setTimeout> | undefined

/** Places in the queue, of what is seen. */
async function readPlaces(): Promise<void> {
  const ids = visible.map(name => asked.get(name)?.job ?? byFile.get(name)?.job_id).filter((id): id is string => !!id)
  const pending = [...new Set(ids)].filter(id => byId.get(id)?.status === 'pending').slice(0, 20)
  const views = await Promise.all(pending.map(id => call<ServiceJob>(`jobs/${id}`).catch(() => null)))
  views.forEach(job => job && learn(job))
  if (views.length) known.value += 1
}

/** Counts the times that entries came, changed or went. */
export const catalogChanges = signal(0)
function heardOfCatalog(): void {
  catalogChanges.value += 1
  onCatalog.act()
}

function heard(name: string, data: unknown): void {
  if (name === 'resync') {
    void readAll()
    // What was registered meanwhile; at first the list has just been read.
    if (heardBefore) heardOfCatalog()
    heardBefore = true
  } else if (name === 'catalog') heardOfCatalog()
  else if (name === 'batch') heardOfBatch(data as Batch)
  else if (name === 'queue') {
    queue.value = data as Queue
    places ??= setTimeout(() => {
      places = undefined
      void readPlaces()
    }, 1000)
  } else if (name === 'job') {
    const job = data as ServiceJob
    learn(job)
    const seen = byId.get(job.job_id)!
    newest.value = newest.value.some(one => one.job_id === job.job_id)
      ? newest.value.map(one => (one.job_id === job.job_id ? seen : one))
      : [seen, ...newest.value].slice(0, MOST_JOBS)
    known.value += 1
  }
}

let heardBefore = false
let following: AbortController | undefined

/** While somebody looks: a browser has six connections to a host, for all its tabs. */
function listen(): void {
  following?.abort()
  following = undefined
  if (document.hidden) return
  const stop = (following = new AbortController())
  follow('events', heard, stop.signal).catch((error: unknown) => {
    if (!stop.signal.aborted) tell(`Changes are not followed: ${error instanceof Problem ? error.message : error}`, true)
  })
}

/** Look now: something was begun or ended. */
export const refresh = (): void => void readAll()

effect(() => {
  void key.value
  listen()
})
let reading = false
effect(() => {
  void epoch.value
  asked.clear()
  // The stream's first event reads the rest.
  if (reading) void readAll()
  reading = true
})
document.addEventListener('visibilitychange', listen)

// -- what people do

export const batches = signal<Batch[]>([])
export const activeBatches = computed(() => batches.value.filter(batch => batch.status === 'active'))

/** One file at once, several as a batch; whether it was begun. */
export async function prepare(names: string[], retry = false): Promise<boolean> {
  let begun = false
  if (names.length === 1) {
    const [name] = names as [string]
    await trying(`${name} cannot be prepared`, async () => {
      const job = await begin(`data/${pathOf(name)}?wait=0${retry ? '&retry=true' : ''}`)
      asked.set(name, { ready: job === null, job, time: Date.now() })
      known.value += 1
      begun = true
      if (job === null) ended.value = `${name} is ready`
      else mine.add(job)
    })
  } else {
    await trying('these files cannot be prepared', async () => {
      put(await call<Batch>('batches', { method: 'POST', body: { files: names, retry } }))
      begun = true
    })
  }
  refresh()
  return begun
}

export async function cancel(job: ServiceJob): Promise<void> {
  await trying('the job cannot be cancelled', () => call(`jobs/${job.job_id}`, { method: 'DELETE' }))
  refresh()
}

export async function cancelBatch(batch: Batch): Promise<void> {
  const after = await trying('the batch cannot be cancelled', () => call<Batch>(`batches/${batch.batch_id}`, { method: 'DELETE' }))
  if (after) put(after)
  refresh()
}

function put(batch: Batch): void {
  const others = batches.value.filter(one => one.batch_id !== batch.batch_id)
  batches.value = [batch, ...others].sort((a, b) => (isEarlier(a, b) ? 1 : -1))
}

/** One of those that are shown has changed. */
function heardOfBatch(batch: Batch): void {
  const before = batches.value.find(one => one.batch_id === batch.batch_id)
  if (!before || before.status !== 'active') return
  put(batch)
  if (before.counts['ready'] !== batch.counts['ready']) askAgain()
  if (batch.status === 'active') return
  tell(`The batch of ${batch.total} files has ended.`)
  // With the files that failed.
  void call<Batch>(`batches/${batch.batch_id}`).then(put, () => undefined)
}

/** Those of this requester, after the page was loaded. */
export async function findBatches(): Promise<void> {
  const found = await call<{ batches: Batch[] }>('batches?requester=me&limit=10').catch(() => null)
  found?.batches.forEach(put)
}
