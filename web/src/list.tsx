// The list of files: only the rows that are seen are in the page, whatever the catalog's size.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { signal } from '@preact/signals'
import { filter, isOpen, NO_FILTER, show } from './address'
import { changed, collections, count, failed, load, loading, more, outdated, reload, rows, STATES, type Row } from './catalog'
import { removing } from './dialogs'
import { cancel, isLive, look, prepare, standing } from './jobs'
import { tell } from './service'
import { bytes } from './words'

const narrow = matchMedia('(max-width: 760px)')
/** As page.css has it: two lines where there is little room. */
const rowPx = signal(narrow.matches ? 58 : 34)
narrow.addEventListener('change', () => (rowPx.value = narrow.matches ? 58 : 34))
const AHEAD = 1000
const OVERSCAN = 8
/** Tracks that one can still look at. */
const MOST_TOGETHER = 20
export const FORMATS = (
  'bam sam cram vcf bcf gff gff3 gtf bed narrowpeak broadpeak gappedpeak bigbed bigwig bedgraph wig csv tsv fasta 2bit tagalign interact ' +
  'bedpe paf pairs hic cool mcool seg interval_list macs ucsc_table genbank embl'
).split(' ')

export const selected = signal<ReadonlySet<string>>(new Set())
/** The row that Tab leads to. */
const current = signal(0)
/** Where a range begins: what was selected or left out last. */
let anchor = ''

/** Select it, or not any longer; `range`: with all from the one before. */
export function toggle(name: string, range = false): void {
  const next = new Set(selected.value), wanted = !next.has(name)
  const [from, to] = [anchor, name].map(one => rows.findIndex(row => row.name === one)).sort((a, b) => a - b) as [number, number]
  const names = range && from >= 0 ? rows.slice(from, to + 1).map(row => row.name) : [name]
  for (const one of names) wanted ? next.add(one) : next.delete(one)
  anchor = name
  selected.value = next
}

/** All that are listed, as far as they were read; or none. */
function selectAll(wanted: boolean): void {
  selected.value = new Set(wanted ? rows.map(row => row.name) : [])
}

/** `p`: what has failed is tried again. */
const prepareRow = (name: string): void => void prepare([name], standing(name).kind === 'failed')

function cancelRow(name: string): void {
  const { job } = standing(name)
  if (job && isLive(job)) void cancel(job)
}

function State({ name }: { name: string }) {
  const state = standing(name)
  switch (state.kind) {
    case 'live':
      return (
        <span class="live" key="live">
          <progress max={100} value={state.percent ?? 0} aria-label={`Progress of ${name}`} />
          <span class="words" title={state.text}>{state.text}</span>
          {state.job && <button class="quiet" tabIndex={-1} onClick={() => void cancel(state.job!)} aria-label={`Cancel ${name}`}>Cancel</button>}
        </span>
      )
    case 'failed':
      return (
        <span class="bad" key="failed" title={state.text}>
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
      tabIndex={here ? 0 : -1} style={{ top: `${index * rowPx.value}px` }} onFocusIn={() => (current.value = index)}
      onDblClick={() => show(row.name)}>
      <span role="gridcell"><input type="checkbox" tabIndex={-1} checked={chosen} aria-label={`Select ${row.name}`}
        onClick={event => toggle(row.name, event.shiftKey)} /></span>
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

/** Of the row that it is in. */
const indexOf = (target: EventTarget | null): number | null => {
  const row = target instanceof Element ? target.closest('.scroll [role=row]') : null
  return row ? Number(row.id.slice('row-'.length)) : null
}

export function FileList() {
  const box = useRef<HTMLDivElement>(null)
  const [{ top, height }, scrolled] = useState({ top: 0, height: 600 })
  const px = rowPx.value
  const total = count.value
  void changed.value
  const first = Math.max(0, Math.floor(top / px) - OVERSCAN)
  const last = Math.min(total, Math.ceil((top + height) / px) + OVERSCAN)
  const shown = rows.slice(first, last).map((row, offset) => ({ row, index: first + offset }))
  // Also when it is not seen: else Tab would lead past the list.
  const here = current.value, kept = rows[here]
  if (kept && (here < first || here >= last)) shown.push({ row: kept, index: here })

  useLayoutEffect(() => {
    const element = box.current!
    const measure = (): void => scrolled({ top: element.scrollTop, height: element.clientHeight })
    const watching = new ResizeObserver(() => {
      measure()
      // What has the focus stays in sight, as when a viewer opens below.
      const focused = document.activeElement
      if (focused && element.contains(focused)) focused.closest('[role=row]')?.scrollIntoView({ block: 'nearest' })
    })
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
  useLayoutEffect(() => {
    // Rows came or went above it: the current one is still the one with the focus.
    const focused = indexOf(document.activeElement)
    if (focused !== null) current.value = focused
    else if (here >= total) current.value = Math.max(0, total - 1)
  }, [changed.value])
  const names = rows.slice(first, last).map(row => row.name).join(' ')
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
    if (index * px < element.scrollTop) element.scrollTop = index * px
    else if ((index + 1) * px > element.scrollTop + element.clientHeight) element.scrollTop = (index + 1) * px - element.clientHeight
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById(`row-${index}`)?.focus({ preventScroll: true })))
  }
  const keys = (event: KeyboardEvent): void => {
    const here = indexOf(event.target)
    if (here === null || (event.target instanceof HTMLInputElement && event.key === ' ')) return
    const page = Math.max(1, Math.floor(height / px) - 1), row = rows[here]
    const steps: Record<string, () => void> = {
      ArrowDown: () => go(here + 1), ArrowUp: () => go(here - 1), PageDown: () => go(here + page), PageUp: () => go(here - page),
      Home: () => go(0), End: () => go(total - 1),
      ' ': () => row && toggle(row.name, event.shiftKey), Enter: () => row && show(row.name),
      p: () => row && prepareRow(row.name), c: () => row && cancelRow(row.name),
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
          <span role="columnheader">
            <input type="checkbox" aria-label="Select all that are listed" title="Select all that are listed" disabled={!total}
              checked={total > 0 && selected.value.size >= total && rows.every(row => selected.value.has(row.name))}
              onChange={event => selectAll((event.target as HTMLInputElement).checked)} />
          </span>
          <span role="columnheader">File</span>
          <span role="columnheader" class="format">Format</span>
          <span role="columnheader" class="size">Size</span>
          <span role="columnheader">State</span>
          <span role="columnheader" class="acts"><span class="hidden">Actions</span></span>
        </div>
      </div>
      <div class="scroll" ref={box} role="presentation">
        <div role="rowgroup" style={{ height: `${total * px}px` }}>
          {shown.map(({ row, index }) => <FileRow key={row.name} row={row} index={index} />)}
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
  const none = any ? 'no file matches' : 'no files yet: add one, or drop files here'
  const text = (event: Event): string => (event.target as HTMLInputElement | HTMLSelectElement).value
  return (
    <form class="filters" role="search" onSubmit={event => event.preventDefault()}>
      <input id="search" type="search" placeholder="Search: start of an id or of a word of the name  ( / )" aria-label="Search files" value={wanted.q} maxLength={200}
        onInput={event => set({ q: text(event) })} />
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
          : loading.value ? 'loading' : none}
      </span>
    </form>
  )
}

export function Selection() {
  const names = [...selected.value]
  if (!names.length) return null
  const open = (): void => {
    names.slice(0, MOST_TOGETHER).forEach(show)
    if (names.length > MOST_TOGETHER) tell(`The first ${MOST_TOGETHER} of ${names.length} are opened.`)
    selected.value = new Set()
  }
  return (
    <div class="selection" role="region" aria-label="Selected files">
      <span>{names.length} selected</span>
      <button class="main" onClick={() => void prepare(names).then(begun => begun && (selected.value = new Set()))}>Prepare</button>
      <button onClick={open}>Open together</button>
      <button class="quiet" onClick={() => (removing.value = names)}>Remove</button>
      <button class="quiet" onClick={() => (selected.value = new Set())}>Clear</button>
    </div>
  )
}
