// Dialogs: adding a file, the key, the keyboard's shortcuts.
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { effect, signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { close as closeFile, show } from './address'
import { reload } from './catalog'
import { FORMATS, selected } from './list'
import { pathOf, type Entry } from './jobs'
import { asking, at, call, keep, kept, Problem, tell } from './service'
import { upload } from './uploads'

export const adding = signal(false)
export const helping = signal(false)

const NO_KEYS = 'no-single-keys'
/** Single keys come from dictation, too: who wants none switches them off (WCAG 2.1.4). */
export const singleKeys = signal(!kept('localStorage', NO_KEYS))
effect(() => keep('localStorage', NO_KEYS, singleKeys.value ? '' : 'yes'))

function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const box = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => {
    const dialog = box.current!
    dialog.showModal()
    // Closed before it is taken away: the focus goes back to where it was.
    return () => dialog.close()
  }, [])
  return (
    <dialog ref={box} aria-label={title} onCancel={event => { event.preventDefault(); close() }}>
      <h2>{title}</h2>
      {children}
    </dialog>
  )
}

export function KeyDialog() {
  const question = asking.value
  const [given, setGiven] = useState('')
  if (!question) return null
  const answer = (text: string | null): void => {
    setGiven('')
    question.answer(text)
  }
  return (
    <Dialog title={question.needed ? 'A key is needed' : 'Use a key'} close={() => answer(null)}>
      <form onSubmit={event => { event.preventDefault(); if (given) answer(given) }}>
        {question.wrong && <p class="bad">The key that was given is not the right one.</p>}
        <p>
          {question.needed ? 'This call needs a key.' : 'A key shows what it may see, and may do.'} <code>gooseherd up</code> keeps the admin's in its state folder.
          It is kept in this tab alone, until the tab is closed.
        </p>
        <label>Key <input type="password" autoComplete="off" autoFocus value={given} onInput={event => setGiven((event.target as HTMLInputElement).value)} /></label>
        <p class="buttons"><button class="main" type="submit" disabled={!given}>Use it</button> <button type="button" onClick={() => answer(null)}>Go on without</button></p>
      </form>
    </Dialog>
  )
}

const ID = /[^A-Za-z0-9._-]+/g

export function AddDialog() {
  const [source, setSource] = useState('')
  const [dcc, setDcc] = useState('local')
  const [id, setId] = useState('')
  const [format, setFormat] = useState('')
  const [problem, setProblem] = useState('')
  /** The entry that has the name already. */
  const [taken, setTaken] = useState<Entry | null>(null)
  const [busy, setBusy] = useState(false)
  if (!adding.value) return null
  const url = source.trim().startsWith('/') ? `file://${source.trim().split('/').map(encodeURIComponent).join('/')}` : source.trim()
  const filename = decoded(url.split(/[?#]/)[0]!.split('/').pop() ?? '')
  const localId = id || filename.replace(ID, '-').toLowerCase()
  const text = (event: Event): string => (event.target as HTMLInputElement | HTMLSelectElement).value
  const close = (): void => {
    adding.value = false
    setProblem('')
    setTaken(null)
  }
  const name = `${dcc.toLowerCase()}/${localId}`
  const replaces = taken !== null && `${taken.dcc}/${taken.local_id}` === name
  const add = async (event: Event): Promise<void> => {
    event.preventDefault()
    setBusy(true)
    try {
      const there = replaces ? null : await call<Entry>(`files/${pathOf(name)}`).catch((error: unknown) => {
        if (error instanceof Problem && error.status === 404) return null
        throw error
      })
      setTaken(there)
      setProblem('')
      if (there) return
      const entry = { dcc, local_id: localId, filename, access_url: url, ...(format ? { file_format: format } : {}) }
      const done = await call<{ new: number }>('files', { method: 'POST', body: entry })
      tell(`${name} is ${done.new ? 'added' : 'replaced'}.`)
      reload()
      show(name)
      setSource('')
      setId('')
      close()
    } catch (error) {
      setProblem(error instanceof Problem ? `${error.title}: ${error.message}` : String(error))
    } finally {
      setBusy(false)
    }
  }
  return (
    <Dialog title="Add a file" close={close}>
      <form onSubmit={event => void add(event)}>
        <label>Address, or path on the machine of the service
          <input autoFocus required value={source} placeholder="https://… or /data/reads.bam" onInput={event => setSource(text(event))} /></label>
        <div class="pair">
          <label>Collection <input required value={dcc} maxLength={64} onInput={event => setDcc(text(event).trim())} /></label>
          <label>Id <input value={id} placeholder={localId || 'from the name'} onInput={event => setId(text(event).trim())} /></label>
          <label>Format
            <select value={format} onChange={event => setFormat(text(event))}>
              <option value="">from the name</option>
              {FORMATS.map(one => <option key={one} value={one}>{one}</option>)}
            </select></label>
        </div>
        <label>Or files of this computer, with their indexes if there are any; they may also be dropped onto the page
          <input type="file" multiple onChange={event => {
            const chosen = [...((event.target as HTMLInputElement).files ?? [])]
            close()
            void upload(chosen)
          }} /></label>
        {problem && <p class="bad" role="alert">{problem}</p>}
        {replaces && <p class="note-text" role="alert">{name} is in the catalog already: {taken.filename}. Give another id, or replace it.</p>}
        <p class="buttons"><button class="main" type="submit" disabled={busy || !filename}>{replaces ? 'Replace and open' : 'Add and open'}</button> <button type="button" onClick={close}>Cancel</button></p>
      </form>
    </Dialog>
  )
}

/** Names of entries that somebody wants to take out. */
export const removing = signal<string[]>([])

export function RemoveDialog() {
  const names = removing.value
  if (!names.length) return null
  const close = (): void => {
    removing.value = []
  }
  const remove = async (): Promise<void> => {
    close()
    const removed = new Set<string>()
    for (const name of names) {
      try {
        await call(`files/${pathOf(name)}`, { method: 'DELETE' })
        removed.add(name)
        closeFile(name)
      } catch (error) {
        tell(`${name} cannot be removed: ${error instanceof Error ? error.message : error}`, true)
        break
      }
    }
    selected.value = new Set([...selected.value].filter(name => !removed.has(name)))
    if (removed.size === names.length) tell(removed.size === 1 ? `${names[0]} is removed.` : `${removed.size} files are removed.`)
    reload()
  }
  return (
    <Dialog title={names.length === 1 ? 'Remove this file?' : `Remove these ${names.length} files?`} close={close}>
      <p>{names.slice(0, 10).join(', ')}{names.length > 10 ? ' …' : ''}</p>
      <p>{names.length === 1 ? 'It is' : 'They are'} taken out of the catalog. What was uploaded here is deleted; files elsewhere stay as they are.</p>
      <p class="buttons"><button class="main" onClick={() => void remove()}>Remove</button> <button autoFocus onClick={close}>Keep</button></p>
    </Dialog>
  )
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const KEYS: [string, string][] = [
  ['/', 'to the search'], ['↑ ↓ PgUp PgDn Home End', 'through the list'], ['Space', 'select the file; with Shift all from the one before'], ['Enter', 'open it in the viewer'],
  ['p', 'prepare it, or try again'], ['c', 'cancel its preparation'], ['a', 'add a file'], ['?', 'this list'], ['Esc', 'close'],
]

export function HelpDialog() {
  if (!helping.value) return null
  const close = (): void => {
    helping.value = false
  }
  return (
    <Dialog title="Keys" close={close}>
      <dl class="keys">{KEYS.map(([key, words]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{words}</dd></div>)}</dl>
      <label class="choice"><input type="checkbox" checked={singleKeys.value} onChange={event => (singleKeys.value = (event.target as HTMLInputElement).checked)} />
        <span><kbd>/</kbd>, <kbd>a</kbd> and <kbd>?</kbd> work everywhere on the page</span></label>
      <p><a href={at('static/licenses.txt')}>Licences</a> of what this page is made of</p>
      <p class="buttons"><button class="main" autoFocus onClick={close}>Close</button></p>
    </Dialog>
  )
}
