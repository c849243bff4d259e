// Files that are sent to the service: dropped or chosen, in pieces, and on after a break or a restart (tus 1.0.0).
import { computed, signal } from '@preact/signals'
import { show } from './address'
import { reload } from './catalog'
import { answer, call, keep, kept, Problem, tell, trying } from './service'

export interface Sending {
  number: number
  name: string
  size: number
  sent: number
  state: 'waiting' | 'sending' | 'interrupted' | 'done' | 'failed'
  text: string
}
interface Uploads {
  allowed: boolean
  max_bytes: number
}
interface State {
  offset: number
  complete: boolean
  file: string | null
}
/** What this browser has begun: without a key the service lists none, and the id is what opens an upload. */
interface Begun {
  id: string
  name: string
  size: number
  modified: number
  index_of: string
}
/** A file and the indexes that lie beside it. */
interface Task {
  number: number
  file: File
  indexes: File[]
  /** Of a folder: what has no known format is left out, and counted. */
  mayBeLeftOut: boolean
  stop: AbortController
  /** Where its uploads are. */
  places: string[]
}

export const sending = signal<Sending[]>([])
export const underWay = computed(() => sending.value.filter(one => one.state !== 'done' && one.state !== 'failed'))
/** Whether something is dragged over the page. */
export const over = signal(false)

const PIECE = 8 << 20
const TUS = { 'Tus-Resumable': '1.0.0' }
const INDEX = /\.(bai|tbi|csi|crai|fai|gzi)$/i
const OPENED = 4
const BEGUN = 'uploads'
const MOST_BEGUN = 500

const tasks: Task[] = []
const sent = new Map<number, Task>()
let numbers = 0
let working = false
let leftOut = 0
let added = 0

const change = (number: number, news: Partial<Sending>): void => {
  sending.value = sending.value.map(one => (one.number === number ? { ...one, ...news } : one))
}

/** Send them, one after the other; indexes with the file whose name they begin with. */
export async function upload(files: File[], ofFolder = false): Promise<void> {
  if (!files.length) return
  const allowed = await trying('the files cannot be sent', () => call<Uploads>('uploads'))
  if (!allowed) return
  // Asks for the key where one would help.
  if (!allowed.allowed && !(await mayNow())) return
  const names = new Set(files.map(file => file.name))
  const dataOf = (index: string): string | undefined => {
    const stem = index.replace(INDEX, '')
    return names.has(stem) ? stem : [...names].find(name => !INDEX.test(name) && name.replace(/\.[^.]+$/, '') === stem)
  }
  const indexes = files.filter(file => INDEX.test(file.name) && dataOf(file.name))
  for (const file of files) {
    if (indexes.includes(file)) continue
    const beside = indexes.filter(index => dataOf(index.name) === file.name)
    const task = { number: ++numbers, file, indexes: beside, mayBeLeftOut: ofFolder, stop: new AbortController(), places: [] }
    tasks.push(task)
    sent.set(task.number, task)
    sending.value = [...sending.value, { number: task.number, name: file.name, size: file.size, sent: 0, state: 'waiting', text: 'waits' }]
  }
  if (!working) await work()
}

/** Uploads are refused without a key: ask for one, if the service takes any at all. */
async function mayNow(): Promise<boolean> {
  try {
    // An upload of nothing with a name that none can have: what is refused of it tells whether one would be taken.
    await answer('uploads', { method: 'POST', headers: { ...TUS, 'Upload-Length': '0', 'Upload-Metadata': `filename ${btoa('/')}` } })
    return true
  } catch (error) {
    if (error instanceof Problem && error.status === 422) return true
    tell(`The file cannot be sent: ${error instanceof Error ? error.message : error}`, true)
    return false
  }
}

async function work(): Promise<void> {
  working = true
  try {
    for (let task = tasks.shift(); task; task = tasks.shift()) await one(task)
  } finally {
    working = false
    const told = [
      added === 1 ? 'One file is added.' : added ? `${added} files are added.` : '',
      leftOut === 1 ? 'One file of no known format was left out.' : leftOut ? `${leftOut} files of no known format were left out.` : '',
    ]
    if (added || leftOut) tell(told.filter(Boolean).join(' '))
    added = leftOut = 0
  }
}

async function one(task: Task): Promise<void> {
  const { number, file, stop } = task
  try {
    const where = await begin(task, file)
    for (const index of task.indexes) {
      const beside = await begin(task, index, where.split('/').pop()!)
      await send(beside, index, () => undefined, stop.signal)
    }
    const name = await send(where, file, (sent, text) => change(number, { sent, state: text ? 'interrupted' : 'sending', text: text || `${Math.floor((100 * sent) / (file.size || 1))} %` }), stop.signal)
    forget(task)
    added += 1
    change(number, { sent: file.size, state: 'done', text: name ? `added as ${name}` : 'sent' })
    reload()
    if (name && sending.value.filter(each => each.state === 'done').length <= OPENED) show(name)
  } catch (error) {
    const unknown = task.mayBeLeftOut && error instanceof Problem && error.status === 422
    if (unknown) leftOut += 1
    if (stop.signal.aborted || unknown) sending.value = sending.value.filter(each => each.number !== number)
    else change(number, { state: 'failed', text: error instanceof Problem && error.title !== error.message ? `${error.title}: ${error.message}` : String(error instanceof Error ? error.message : error) })
  }
}

const begunBefore = (): Begun[] => {
  try {
    const found: unknown = JSON.parse(kept('localStorage', BEGUN) || '[]')
    return Array.isArray(found) ? found : []
  } catch {
    return []
  }
}

const keepBegun = (begun: Begun[]): void => keep('localStorage', BEGUN, JSON.stringify(begun.slice(-MOST_BEGUN)))

const forget = (task: Task): void => {
  sent.delete(task.number)
  keepBegun(begunBefore().filter(one => !task.places.includes(`uploads/${one.id}`)))
}

/** Where its upload is: one that this browser began before and that goes on, or a new one. */
async function begin(task: Task, file: File, index_of = ''): Promise<string> {
  const { signal } = task.stop
  const about = { name: file.name, size: file.size, modified: file.lastModified, index_of }
  const isSame = (one: Begun): boolean => (Object.keys(about) as (keyof typeof about)[]).every(name => one[name] === about[name])
  const before = begunBefore().filter(isSame).pop()
  if (before && (await goesOn(`uploads/${before.id}`, index_of !== '', signal))) {
    task.places.push(`uploads/${before.id}`)
    return `uploads/${before.id}`
  }
  const metadata = Object.entries({ filename: file.name, ...(index_of && { index_of }) }).map(([name, value]) => `${name} ${base64(value)}`).join(',')
  // Not ended by `signal`: an upload that is begun and not known here could not be given up.
  const response = await patiently(() => answer('uploads', { method: 'POST', headers: { ...TUS, 'Upload-Length': String(file.size), 'Upload-Metadata': metadata } }), signal)
  const where = response.headers.get('Location')!.replace(/^.*\/uploads\//, 'uploads/')
  task.places.push(where)
  keepBegun([...begunBefore().filter(one => !isSame(one)), { ...about, id: where.split('/').pop()! }])
  if (signal.aborted) {
    giveUp(task)
    throw signal.reason
  }
  return where
}

/** Whether it is there, and not complete; an index may be. */
async function goesOn(where: string, mayBeComplete: boolean, signal: AbortSignal): Promise<boolean> {
  try {
    const { complete } = await patiently(() => call<State>(where, { signal }), signal)
    return mayBeComplete || !complete
  } catch (error) {
    if (error instanceof Problem && [401, 403, 404].includes(error.status)) return false
    throw error
  }
}

/** Piece by piece, from where the service is; the entry that it became. */
async function send(where: string, file: File, onSent: (sent: number, text?: string) => void, signal: AbortSignal): Promise<string | null> {
  for (;;) {
    const about = await patiently(() => call<State>(where, { signal }), signal)
    let offset = about.offset
    onSent(offset)
    if (about.complete) return about.file
    try {
      while (offset < file.size) {
        const response = await answer(where, {
          method: 'PATCH', signal, body: file.slice(offset, offset + PIECE),
          headers: { ...TUS, 'Upload-Offset': String(offset), 'Content-Type': 'application/offset+octet-stream' },
        })
        offset = Number(response.headers.get('Upload-Offset'))
        onSent(offset)
      }
    } catch (error) {
      // Away, restarted, or not where it was: asked again where to go on.
      if (signal.aborted || !(error instanceof Problem) || !error.retryable || error.status === 507) throw error
      onSent(offset, 'interrupted; goes on when the service answers')
      await pause(signal)
    }
  }
}

async function patiently<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (signal.aborted || !(error instanceof Problem) || !error.retryable || error.status === 507) throw error
      await pause(signal)
    }
  }
}

const pause = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    setTimeout(resolve, 1500)
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })

const base64 = (text: string): string => btoa(String.fromCharCode(...new TextEncoder().encode(text)))

export function cancelUpload(number: number): void {
  const waiting = tasks.findIndex(task => task.number === number)
  if (waiting >= 0) tasks.splice(waiting, 1)
  const task = sent.get(number)
  task?.stop.abort()
  if (task) giveUp(task)
  sending.value = sending.value.filter(one => one.number !== number)
}

/** What failed, once more: from where it came to, if the service still has that. */
export function sendAgain(number: number): void {
  const task = sent.get(number)
  if (!task) return
  change(number, { state: 'waiting', text: 'waits' })
  tasks.push(task)
  if (!working) void work()
}

// Who leaves ends them: they go on only when the same files are dropped again.
addEventListener('beforeunload', event => {
  if (underWay.value.length) event.preventDefault()
})

function giveUp(task: Task): void {
  forget(task)
  for (const where of task.places) void answer(where, { method: 'DELETE', headers: TUS }).catch(() => undefined)
}

export const forgetDone = (): void => {
  sending.value = underWay.value
}

// -- dragging onto the page

const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false

addEventListener('dragover', event => {
  if (!hasFiles(event)) return
  event.preventDefault()
  over.value = true
})
addEventListener('dragleave', event => {
  if (!event.relatedTarget) over.value = false
})
addEventListener('drop', event => {
  if (!hasFiles(event)) return
  event.preventDefault()
  over.value = false
  // The entries are there only while the event is handled.
  const entries = [...event.dataTransfer!.items].map(item => item.webkitGetAsEntry()).filter(one => one !== null)
  const plain = [...event.dataTransfer!.files]
  const folder = entries.some(one => one.isDirectory)
  void (entries.length ? Promise.all(entries.map(filesOf)).then(found => found.flat()) : Promise.resolve(plain))
    .then(files => upload(files, folder), (error: unknown) => tell(`What was dropped cannot be read: ${error instanceof Error ? error.message : error}`, true))
})

/** A file, or all files in a folder. */
async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))]
  const reader = (entry as FileSystemDirectoryEntry).createReader()
  const found: File[] = []
  for (;;) {
    // At most a hundred each time.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
    if (!some.length) return found
    for (const one of some) if (!one.name.startsWith('.')) found.push(...(await filesOf(one)))
  }
}
