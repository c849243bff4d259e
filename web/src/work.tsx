// Jobs, batches, the queue, and for whoever has the key the workers and sessions.
import { useEffect } from 'preact/hooks'
import { effect, signal } from '@preact/signals'
import { describe } from '../client/gooseherd'
import { show, view } from './address'
import { activeBatches, batches, cancel, cancelBatch, isLive, nameOf, NAMES, newest, prepare, queue, type Batch, type ServiceJob } from './jobs'
import { away, call, key, Problem, trying } from './service'
import { ago, between, bytes, span } from './words'

export function BatchLine({ batch }: { batch: Batch }) {
  const { counts, total, percent, status } = batch
  const failures = batch.failures ?? []
  return (
    <li class="batch">
      <progress max={100} value={percent} aria-label="Progress of the batch" />
      <span>
        {counts['ready'] ?? 0} of {total} ready
        {counts['failed'] ? <span class="bad">, {counts['failed']} failed</span> : ''}
        {counts['running'] ? `, ${counts['running']} being made` : ''}
        {(counts['waiting'] ?? 0) + (counts['pending'] ?? 0) ? `, ${(counts['waiting'] ?? 0) + (counts['pending'] ?? 0)} waiting` : ''}
        {status !== 'active' && ` · ${status}`}
      </span>
      {status === 'active' && <button class="quiet" onClick={() => void cancelBatch(batch)}>Cancel the batch</button>}
      {status !== 'active' && failures.length > 0 && (
        <button class="quiet" onClick={() => void prepare(failures.map(nameOf), true)}>Retry {failures.length}</button>
      )}
      <span class="dim">{ago(batch.created_at)}</span>
    </li>
  )
}

export function ActiveBatches() {
  if (!activeBatches.value.length) return null
  return <ul class="batches" aria-label="Batches under way">{activeBatches.value.map(batch => <BatchLine key={batch.batch_id} batch={batch} />)}</ul>
}

function JobRow({ job }: { job: ServiceJob }) {
  const name = nameOf(job), live = isLive(job), took = between(job.started_at, job.finished_at)
  return (
    <tr>
      <td class="file"><b>{job.filename}</b> <span class="dim">{name}{job.processor === NAMES ? ', names' : ''}</span></td>
      <td class="format">{job.file_format}</td>
      <td class={job.status === 'failed' ? 'bad' : job.status === 'completed' ? 'good' : ''}>
        {live && <progress max={100} value={job.progress.percent} aria-label={`Progress of ${name}`} />} {describe(job)}
        {job.attempt > 1 && <span class="dim"> (attempt {job.attempt})</span>}
      </td>
      <td class="dim">{took !== null ? span(took) : ''}</td>
      <td class="dim">{ago(job.created_at)}</td>
      <td class="acts">
        {live && <button class="quiet" onClick={() => void cancel(job)} aria-label={`Cancel ${name}`}>Cancel</button>}
        {job.status === 'failed' && <button class="quiet" onClick={() => void prepare([name], true)} aria-label={`Retry ${name}`}>Retry</button>}
        {job.status === 'completed' && (
          <button class="quiet" onClick={() => { show(name); view.value = 'files' }} aria-label={`Open ${name}`}>Open</button>
        )}
      </td>
    </tr>
  )
}

export function Jobs() {
  return (
    <div class="scroll page-text" tabIndex={0} role="region" aria-label="Jobs and batches">
      {batches.value.length > 0 && <><h2>Batches</h2><ul class="batches">{batches.value.map(batch => <BatchLine key={batch.batch_id} batch={batch} />)}</ul></>}
      <h2>Jobs, newest first</h2>
      {newest.value.length ? (
        <table>
          <thead><tr><th>File</th><th class="format">Format</th><th>State</th><th>Took</th><th>Asked for</th><th><span class="hidden">Actions</span></th></tr></thead>
          <tbody>{newest.value.map(job => <JobRow key={job.job_id} job={job} />)}</tbody>
        </table>
      ) : <p class="dim">Nothing was asked for yet.</p>}
    </div>
  )
}

interface Worker { worker_id: string; health: string; job_id: string | null; size: string; age_seconds: number | null; warm: boolean; detail: string; diagnosis: string | null }
interface Session { session_id: string; state: string; owner: string; size: string; created_at: string; reason: string | null }
const workers = signal<{ slots: number; workers: Worker[]; ended: Worker[] } | null>(null)
const sessions = signal<Session[] | null>(null)

// Another key sees others.
effect(() => {
  void key.value
  workers.value = null
  sessions.value = null
})

const readFleet = (): Promise<unknown> =>
  trying('workers cannot be shown', async () => {
    // A method, so that the key is asked for: somebody wants to see them. Workers are the admin's to see, sessions their owner's, too.
    workers.value = await call<typeof workers.value>('fleet', { method: 'GET' }).catch((error: unknown) => {
      if (error instanceof Problem && error.status === 403) return null
      throw error
    })
    sessions.value = (await call<{ sessions: Session[] }>('sessions', { method: 'GET' })).sessions
  })

interface Amounts { attempts: number; worker_seconds: number; bytes_in: number; bytes_out: number; bytes_served: number; cost: number }
interface Usage {
  first: string
  last: string
  currency: string
  used: (Amounts & { requester: string | null })[]
  total: Amounts
  budget: { per_day: number | null; per_month: number | null; spent_today: number; spent_this_month: number } | null
}
const usage = signal<Usage | null>(null)

/** Of this month: one's own, the admin's everybody's. A service that has no record of it shows nothing. */
const readUsage = (): Promise<void> => call<Usage>('usage?by=requester').then(found => void (usage.value = found), () => void (usage.value = null))

function UsageTable() {
  useEffect(() => {
    usage.value = null
    if (key.value) void readUsage()
  }, [key.value])
  const seen = usage.value
  if (!seen) return null
  const money = (amount: number): string => `${amount.toFixed(2)} ${seen.currency}`
  return (
    <>
      <h2>Usage, {seen.first} to {seen.last}</h2>
      {seen.budget && (
        <p class="dim">
          {money(seen.budget.spent_today)} today{seen.budget.per_day !== null ? ` of ${money(seen.budget.per_day)}` : ''}, {money(seen.budget.spent_this_month)} this month
          {seen.budget.per_month !== null ? ` of ${money(seen.budget.per_month)}` : ''}
        </p>
      )}
      <table>
        <thead><tr><th>Requester</th><th>Attempts</th><th>Worker time</th><th>Read</th><th>Made</th><th>Served</th><th>Cost</th></tr></thead>
        <tbody>{[...seen.used, { ...seen.total, requester: 'in all' }].map(one => (
          <tr key={one.requester ?? ''}><td>{one.requester ?? '–'}</td><td>{one.attempts}</td><td>{span(one.worker_seconds)}</td><td>{bytes(one.bytes_in)}</td><td>{bytes(one.bytes_out)}</td><td>{bytes(one.bytes_served)}</td><td>{money(one.cost)}</td></tr>
        ))}</tbody>
      </table>
    </>
  )
}

export function QueueView() {
  useEffect(() => {
    if (!key.value) return
    void readFleet()
    const timer = setInterval(() => {
      if (!away.peek() && !document.hidden) void readFleet()
    }, 5000)
    return () => clearInterval(timer)
  }, [key.value])
  const seen = queue.value
  return (
    <div class="scroll page-text" tabIndex={0} role="region" aria-label="Queue and workers">
      <h2>Queue</h2>
      {seen ? (
        <dl class="figures">
          <div><dt>waiting</dt><dd>{seen.pending}</dd></div>
          <div><dt>being made</dt><dd>{seen.running}</dd></div>
          <div><dt>verifying</dt><dd>{seen.finalizing}</dd></div>
          <div><dt>longest wait now</dt><dd>{span(seen.oldest_seconds)}</dd></div>
          <div><dt>half waited less than</dt><dd>{span(seen.wait_seconds.p50)}</dd></div>
          <div><dt>95 % waited less than</dt><dd>{span(seen.wait_seconds.p95)}</dd></div>
          {Object.entries(seen.pending_by_priority).map(([name, number]) => <div key={name}><dt>waiting, {name}</dt><dd>{number}</dd></div>)}
        </dl>
      ) : <p class="dim">…</p>}
      {(workers.value || !sessions.value) && <h2>Workers</h2>}
      {workers.value ? (
        <>
          <p class="dim">{workers.value.slots} more could be had now.</p>
          {workers.value.workers.length > 0 && (
            <table>
              <thead><tr><th>Worker</th><th>Health</th><th>Size</th><th>Age</th><th>Job</th></tr></thead>
              <tbody>{workers.value.workers.map(one => (
                <tr key={one.worker_id}><td>{one.worker_id}</td><td>{one.health}{one.warm ? ', idle and kept' : ''}</td><td>{one.size}</td><td>{span(one.age_seconds)}</td><td class="dim">{one.job_id ?? ''}</td></tr>
              ))}</tbody>
            </table>
          )}
          {workers.value.ended.length > 0 && (
            <details>
              <summary>{workers.value.ended.length} ended lately</summary>
              <ul>{workers.value.ended.map(one => <li key={one.worker_id}>{one.worker_id}: {one.diagnosis || 'no diagnosis'}</li>)}</ul>
            </details>
          )}
        </>
      ) : !sessions.value && <p><button onClick={() => void readFleet()}>Show workers and sessions</button> <span class="dim">with the admin key; sessions with one's own</span></p>}
      {sessions.value && (
        <>
          <h2>Sessions</h2>
          {sessions.value?.length ? (
            <table>
              <thead><tr><th>Session</th><th>State</th><th>Owner</th><th>Size</th><th>Begun</th></tr></thead>
              <tbody>{sessions.value.map(one => (
                <tr key={one.session_id}><td>{one.session_id}</td><td>{one.state}{one.reason ? `: ${one.reason}` : ''}</td><td>{one.owner}</td><td>{one.size}</td><td>{ago(one.created_at)}</td></tr>
              ))}</tbody>
            </table>
          ) : <p class="dim">None.</p>}
        </>
      )}
      <UsageTable />
    </div>
  )
}
