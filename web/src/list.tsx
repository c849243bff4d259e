// The list of files: only the rows that are seen are in the page, whatever the catalog's size.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { signal } from '@preact/signals'
import { filter, isOpen, NO_FILTER, show } from './address'
import { changed, collections, count, failed, load, loading, more, outdated, reload, rows, STATES, type Row } from './catalog'
import { removing } from './dialogs'
import { cancel, look, prepare, standing } from './jobs'
import { bytes } from './words'

const ROW_PX = 34
const AHEAD = 1000
const OVERSCAN = 8
export const FORMATS = (
  'bam sam cram vcf bcf gff gff3 gtf bed narrowpeak broadpeak gappedpeak bigbed bigwig bedgraph wig csv tsv fasta 2bit tagalign interact ' +
  'bedpe paf pairs hic cool mcool seg interval_list macs ucsc_table genbank embl'
).split(' ')

export const selected = signal<ReadonlySet<string>>(new Set())
const current = signal(0)

export function toggle(name: string): void {
  const next = new Set(selected.value)
  if (!next.delete(name)) next.add(name)
  selected.value = next
}

function State({ name }: { name: string }) {
  const state = standing(name)
  switch (state.kind) {
    case 'live':
      return (
        <span class="live">
          <progress max={100} value={state.percent ?? 0} aria-label={`Progress of ${name}`} /> {state.text}
          {state.job && <button class="quiet" tabIndex={-1} onClick={() => void cancel(state.job!)} aria-label={`Cancel ${name}`}>Cancel</button>}
        </span>
      )
    case 'failed':
      return (
        <span class="bad" title={state.text}>
          <span class="words">failed: {state.text}</span>
          <button class="quiet" tabIndex={-1} onClick={() => void prepare([name], true)} aria-label={`Retry ${name}`}>Retry</button>
        </span>
      )
    case 'ready':
      return <span class="good">ready</span>
    case 'refused':
      return <span class="dim">{state.text}</span>
    default:
      return <span class="dim">{state.text}</span>
  }
}

function FileRow({ row, index }: { row: Row; index: number }) {
  const chosen = selected.value.has(row.name), here = current.value === index
  return (
    <div role="row" class={`row${isOpen(row.name) ? ' open' : ''}`} aria-rowindex={index + 2} aria-selected={chosen} id={`row-${index}`}
      tabIndex={here ? 0 : -1} style={{ top: `${index * ROW_PX}px` }} onFocus={() => (current.value = index)}
      onDblClick={() => show(row.name)}>
      <span role="gridcell"><input type="checkbox" tabIndex={-1} checked={chosen} aria-label={`Select ${row.name}`} onChange={() => toggle(row.name)} /></span>
      <span role="gridcell" class="file" title={`${row.filename} (${row.name})`}><b>{row.filename}</b> <span class="dim">{row.name}</span></span>
      <span role="gridcell" class="format">{row.format}</span>
      <span role="gridcell" class="size">{bytes(row.size)}</span>
      <span role="gridcell" class="state"><State name={row.name} /></span>
      <span role="gridcell" class="acts">
        <button class="quiet" tabIndex={-1} aria-label={`Open ${row.name}`} onClick={() => show(row.name)}>Open</button>
      </span>
    </div>
  )
}

export function FileList() {
  const box = useRef<HTMLDivElement>(null)
  const [{ top, height }, scrolled] = useState({ top: 0, height: 600 })
  const total = count.value
  void changed.value
  const first = Math.max(0, Math.floor(top / ROW_PX) - OVERSCAN)
  const last = Math.min(total, Math.ceil((top + height) / ROW_PX) + OVERSCAN)
  const shown = rows.slice(first, last)

  useLayoutEffect(() => {
    const element = box.current!
    const measure = (): void => scrolled({ top: element.scrollTop, height: element.clientHeight })
    const watching = new ResizeObserver(measure)
    watching.observe(element)
    element.addEventListener('scroll', measure, { passive: true })
    measure()
    return () => {
      watching.disconnect()
      element.removeEventListener('scroll', measure)
    }
  }, [])
  useEffect(() => {
    // Also when as many rows were read again: what was wanted while they were read was not asked for.
    void load(last + AHEAD)
  }, [last, total, changed.value])
  useEffect(() => {
    // For whoever measures how soon the list is there.
    if (total && !performance.getEntriesByName('list').length) requestAnimationFrame(() => performance.mark('list'))
  }, [total])
  const names = shown.map(row => row.name).join(' ')
  useEffect(() => {
    // Rows that only rush by are not asked about.
    const timer = setTimeout(() => look(rows.slice(first, last).map(row => row.name)), 120)
    return () => clearTimeout(timer)
  }, [names])
  useEffect(() => {
    if (box.current) box.current.scrollTop = 0
    current.value = 0
  }, [filter.value])

  const go = (to: number): void => {
    const index = Math.max(0, Math.min(total - 1, to)), element = box.current!
    current.value = index
    if (index * ROW_PX < element.scrollTop) element.scrollTop = index * ROW_PX
    else if ((index + 1) * ROW_PX > element.scrollTop + element.clientHeight) element.scrollTop = (index + 1) * ROW_PX - element.clientHeight
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById(`row-${index}`)?.focus({ preventScroll: true })))
  }
  const keys = (event: KeyboardEvent): void => {
    if (event.target instanceof HTMLInputElement && event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return
    const here = current.value, page = Math.max(1, Math.floor(height / ROW_PX) - 1), row = rows[here]
    const steps: Record<string, () => void> = {
      ArrowDown: () => go(here + 1), ArrowUp: () => go(here - 1), PageDown: () => go(here + page), PageUp: () => go(here - page),
      Home: () => go(0), End: () => go(total - 1),
      ' ': () => row && toggle(row.name), Enter: () => row && show(row.name), p: () => row && void prepare([row.name]),
    }
    const act = event.target instanceof HTMLButtonElement && (event.key === 'Enter' || event.key === ' ') ? undefined : steps[event.key]
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    act()
  }
  return (
    <div class="list" role="grid" aria-label="Files" aria-rowcount={more.value ? -1 : total + 1} aria-multiselectable="true" onKeyDown={keys}>
      <div role="rowgroup" class="head">
        <div role="row" aria-rowindex={1} class="row">
          <span role="columnheader"><span class="hidden">Selected</span></span>
          <span role="columnheader">File</span>
          <span role="columnheader" class="format">Format</span>
          <span role="columnheader" class="size">Size</span>
          <span role="columnheader">State</span>
          <span role="columnheader" class="acts"><span class="hidden">Actions</span></span>
        </div>
      </div>
      <div class="scroll" ref={box} role="presentation">
        <div role="rowgroup" style={{ height: `${total * ROW_PX}px` }}>
          {shown.map((row, offset) => <FileRow key={row.name} row={row} index={first + offset} />)}
        </div>
      </div>
    </div>
  )
}

export function Filters() {
  const wanted = filter.value
  const set = (change: Partial<typeof wanted>): void => {
    filter.value = { ...filter.value, ...change }
  }
  const any = Object.values(wanted).some(Boolean)
  const text = (event: Event): string => (event.target as HTMLInputElement | HTMLSelectElement).value
  return (
    <form class="filters" role="search" onSubmit={event => event.preventDefault()}>
      <input id="search" type="search" placeholder="Search: start of an id or of a word of the name  ( / )" aria-label="Search files" value={wanted.q} maxLength={200}
        onInput={event => set({ q: text(event).trim() })} />
      <input list="collections" placeholder="any collection" aria-label="Collection" value={wanted.dcc} maxLength={64} size={14} onChange={event => set({ dcc: text(event).trim() })} />
      <datalist id="collections">{collections.value.map(one => <option key={one} value={one} />)}</datalist>
      <select aria-label="Format" value={wanted.format} onChange={event => set({ format: text(event) })}>
        <option value="">any format</option>
        {FORMATS.map(one => <option key={one} value={one}>{one}</option>)}
      </select>
      <select aria-label="State" value={wanted.state} onChange={event => set({ state: text(event) })}>
        <option value="">any state</option>
        {Object.entries(STATES).map(([one, words]) => <option key={one} value={one}>{words}</option>)}
      </select>
      {any && <button type="button" class="quiet" onClick={() => (filter.value = NO_FILTER)}>Clear</button>}
      {outdated.value && <button type="button" onClick={reload}>The list has changed: read it again</button>}
      <span class="dim count" role="status">
        {failed.value ? <span class="bad">{failed.value}</span>
          : count.value ? `${count.value.toLocaleString('en')}${more.value ? ' and more' : ''} file${count.value === 1 && !more.value ? '' : 's'}`
          : loading.value ? 'loading' : 'no file matches'}
      </span>
    </form>
  )
}

export function Selection() {
  const names = [...selected.value]
  if (!names.length) return null
  const open = (): void => {
    names.slice(0, 20).forEach(show)
    selected.value = new Set()
  }
  return (
    <div class="selection" role="region" aria-label="Selected files">
      <span>{names.length} selected</span>
      <button class="main" onClick={() => void prepare(names).then(() => (selected.value = new Set()))}>Prepare</button>
      <button onClick={open}>Open together</button>
      <button class="quiet" onClick={() => { removing.value = names; selected.value = new Set() }}>Remove</button>
      <button class="quiet" onClick={() => (selected.value = new Set())}>Clear</button>
    </div>
  )
}
