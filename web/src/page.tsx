// The page at /: files, what is made of them, and a viewer.
import './page.css'
import './focus'
import { render } from 'preact'
import { useEffect } from 'preact/hooks'
import { TITLES, view, type View } from './address'
import { AddDialog, adding, HelpDialog, helping, KeyDialog, RemoveDialog, singleKeys } from './dialogs'
import { ended, findBatches, queue } from './jobs'
import { FileList, Filters, Selection } from './list'
import { Dropping, UploadList } from './uploading'
import { at, away, giveKey, key, notice, useKey } from './service'
import { Viewer } from './viewer'
import { ActiveBatches, Jobs, QueueView } from './work'

function Head() {
  const numbers = queue.value
  return (
    <header>
      <h1>gooseherd</h1>
      <nav aria-label="Views">
        {(Object.entries(TITLES) as [View, string][]).map(([id, title]) => (
          <button key={id} aria-current={view.value === id ? 'page' : undefined} onClick={() => (view.value = id)}>{title}</button>
        ))}
      </nav>
      <span class="dim numbers">{numbers && `${numbers.running + numbers.finalizing} being made, ${numbers.pending} waiting`}</span>
      <span class="right">
        {key.value
          ? <button class="quiet" onClick={() => useKey('')} title="The key is kept in this tab alone">Forget the key</button>
          : <button class="quiet" onClick={() => void giveKey()} title="For files that are not public, and for what changes the catalog">Use a key</button>}
        <button onClick={() => (adding.value = true)}>Add a file</button>
        <a href={at('docs')}>API</a>
        <button class="quiet" aria-label="Keys" title="Keys (?)" onClick={() => (helping.value = true)}>?</button>
      </span>
    </header>
  )
}

function Page() {
  useEffect(() => {
    void findBatches()
    const keys = (event: KeyboardEvent): void => {
      // The field itself, also one within igv.js, whose events are retargeted at its box.
      const from = event.composedPath()[0]
      if (!singleKeys.value || !(from instanceof Element) || from.closest('input, select, textarea, dialog')) return
      if (event.ctrlKey || event.metaKey || event.altKey) return
      const acts: Record<string, () => void> = {
        '/': () => {
          view.value = 'files'
          requestAnimationFrame(() => document.getElementById('search')?.focus())
        },
        '?': () => (helping.value = true), a: () => (adding.value = true),
      }
      if (!acts[event.key]) return
      event.preventDefault()
      acts[event.key]!()
    }
    addEventListener('keydown', keys)
    return () => removeEventListener('keydown', keys)
  }, [])
  return (
    <>
      <Head />
      {away.value && <p class="banner" role="alert">The service does not answer. What is being made goes on; this page goes on when it is back.</p>}
      <main>
        {view.value === 'files' && <section class="files" aria-label="Files"><Filters /><UploadList /><ActiveBatches /><FileList /><Selection /></section>}
        {view.value === 'jobs' && <Jobs />}
        {view.value === 'queue' && <QueueView />}
        {view.value === 'files' && <Viewer />}
      </main>
      {/* Always there: what comes with its text is not read to those who cannot see it. */}
      <div class="notice" role="status">
        {notice.value && <span class={notice.value.bad ? 'bad' : ''}>{notice.value.text} <button class="quiet" aria-label="Dismiss" onClick={() => (notice.value = null)}>✕</button></span>}
      </div>
      <p class="hidden" role="status">{ended.value}</p>
      <Dropping />
      <KeyDialog />
      <AddDialog />
      <RemoveDialog />
      <HelpDialog />
    </>
  )
}

render(<Page />, document.getElementById('page')!)
