// What is known of the work: jobs and the queue, asked for again while anything moves; and where each file stands.
import { computed, effect, signal } from '@preact/signals'
import { describe, type Job } from '../client/gooseherd'
import { begin, call, epoch, follow, tell, trying } from './service'

export interface ServiceJob extends Job {
  dcc: string
  local_id: string
  filename: string
  file_format: string
  created_at: string
  started_at: string | null
  finished_at: string | null
  attempt: number
  notes: string[]
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
/** Files without a job of their own that the service was asked about: of upstream, of the same content, or not made. */
const asked = new Map<string, { ready: boolean; job: string | null; refused?: string; time: number }>()
/** When the file's job was last seen to move: what was asked before that is old when it is answered. */
const changedAt = new Map<string, number>()
/** Changes with each of the three. */
export const known = signal(0)

const MOST_JOBS = 100
const SOON_MS = 1500
const LATER_MS = 10_000
const FRESH_MS = 60_000
const AT_ONCE = 4

function learn(job: ServiceJob): void {
  byId.set(job.job_id, { ...byId.get(job.job_id), ...job })
  const name = nameOf(job), before = byFile.get(name)
  if (!before || before.created_at <= job.created_at) {
    // A job that has just ended says more of the file than what was asked before.
    if (before?.status !== job.status) {
      asked.delete(name)
      changedAt.set(name, Date.now())
    }
    byFile.set(name, byId.get(job.job_id)!)
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
  const job = (answer?.job && byId.get(answer.job)) || byFile.get(name)
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
    void call<{ ready: boolean; job_id: string | null }>(`data/${pathOf(name)}/status`)
      .then(
        answer => {
          if ((changedAt.get(name) ?? 0) < now) asked.set(name, { ready: answer.ready, job: answer.job_id, time: Date.now() })
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

// -- the loop

let timer: ReturnType<typeof setTimeout> | undefined
let again = 0

async function poll(): Promise<void> {
  const turn = ++again
  try {
    const [list, numbers] = await Promise.all([call<{ jobs: ServiceJob[] }>(`jobs?limit=${MOST_JOBS}`), call<Queue>('queue')])
    list.jobs.toReversed().forEach(learn)
    queue.value = numbers
    const listed = new Set(list.jobs.map(job => job.job_id))
    // Places in the queue, and jobs older than the list, of what is seen.
    const seen = visible
      .map(name => asked.get(name)?.job ?? byFile.get(name)?.job_id)
      .filter((id): id is string => !!id)
      .filter(id => {
        const job = byId.get(id)
        return !job || job.status === 'pending' || (isLive(job) && !listed.has(id))
      })
    const views = await Promise.all([...new Set(seen)].slice(0, 20).map(id => call<ServiceJob>(`jobs/${id}`).catch(() => null)))
    views.forEach(job => job && learn(job))
    newest.value = list.jobs.map(job => byId.get(job.job_id) ?? job)
    known.value += 1
    ask()
  } catch {
    // The banner says it, and `epoch` begins anew.
  }
  if (turn !== again) return
  clearTimeout(timer)
  const moving = newest.value.some(isLive)
  timer = setTimeout(() => void poll(), document.hidden ? LATER_MS * 3 : moving ? SOON_MS : LATER_MS)
}

/** Look now: something was begun or ended. */
export const refresh = (): void => void poll()

effect(() => {
  void epoch.value
  asked.clear()
  void poll()
})
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) void poll()
})

// -- what people do

export const batches = signal<Batch[]>([])
export const activeBatches = computed(() => batches.value.filter(batch => batch.status === 'active'))

/** One file at once, several as a batch. */
export async function prepare(names: string[], retry = false): Promise<void> {
  if (names.length === 1) {
    const [name] = names as [string]
    await trying(`${name} cannot be prepared`, async () => {
      const job = await begin(`data/${pathOf(name)}?wait=0${retry ? '&retry=true' : ''}`)
      asked.set(name, { ready: job === null, job, time: Date.now() })
      known.value += 1
    })
  } else {
    await trying('these files cannot be prepared', async () => {
      watch(await call<Batch>('batches', { method: 'POST', body: { files: names, retry } }))
    })
  }
  refresh()
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
  batches.value = [batch, ...others].sort((a, b) => (a.created_at < b.created_at ? 1 : -1))
}

const watched = new Map<string, AbortController>()

/** Follow it by its events until it ends. */
export function watch(batch: Batch): void {
  put(batch)
  if (batch.status !== 'active' || watched.has(batch.batch_id)) return
  const stop = new AbortController()
  let ready = 0
  watched.set(batch.batch_id, stop)
  void follow<Batch>(`batches/${batch.batch_id}/events`, seen => {
    put(seen)
    if (seen.counts.ready !== ready) {
      ready = seen.counts.ready ?? 0
      askAgain()
      // A process of the service remembers entries for two seconds.
      setTimeout(askAgain, 3000)
    }
    refresh()
  }, seen => seen.status !== 'active', stop.signal)
    .then(() => tell(`The batch of ${batch.total} files has ended.`), problem => tell(`The batch cannot be followed: ${problem.message}`, true))
    .finally(() => watched.delete(batch.batch_id))
}

/** Those of this requester that still go on, after the page was loaded. */
export async function findBatches(): Promise<void> {
  const found = await call<{ batches: Batch[] }>('batches?requester=me&limit=10').catch(() => null)
  found?.batches.forEach(batch => (batch.status === 'active' && watched.size < 2 ? watch(batch) : put(batch)))
}
