// The address is the session: what is looked for, which files are open, and where.
import { batch, effect, signal } from '@preact/signals'

export type View = 'files' | 'jobs' | 'queue'
export interface Filter {
  q: string
  dcc: string
  format: string
  state: string
}

export const NO_FILTER: Filter = { q: '', dcc: '', format: '', state: '' }
export const filter = signal<Filter>(NO_FILTER)
/** Names (DCC/ID) of the files in the viewer, top to bottom. */
export const open = signal<string[]>([])
/** The place that is shown, as people write it; empty: the whole of the first sequence. */
export const place = signal('')
export const view = signal<View>('files')

/** As many as the service has in one view. */
export const MOST_OPEN = 100
export const TITLES: Record<View, string> = { files: 'Files', jobs: 'Jobs', queue: 'Queue' }

function read(): void {
  const query = new URLSearchParams(location.search)
  const text = (name: string): string => query.get(name) ?? ''
  const shown = text('view') as View
  // All at once: what is written in between would be neither the address before nor this one.
  batch(() => {
    filter.value = { q: text('q'), dcc: text('dcc'), format: text('format'), state: text('state') }
    open.value = [...new Set(text('files').split(',').filter(name => name.includes('/')))].slice(0, MOST_OPEN)
    place.value = text('at')
    view.value = Object.hasOwn(TITLES, shown) ? shown : 'files'
  })
}

function written(): string {
  const query = new URLSearchParams()
  const put = (name: string, value: string): void => {
    if (value) query.set(name, value)
  }
  put('files', open.value.join(','))
  put('at', place.value)
  for (const [name, value] of Object.entries(filter.value)) put(name, value.trim())
  put('view', view.value === 'files' ? '' : view.value)
  // Addresses are shown to people: what a query may hold as it is stays so.
  const text = String(query).replaceAll('%2F', '/').replaceAll('%2C', ',').replaceAll('%3A', ':')
  return text ? `?${text}` : location.pathname
}

read()
let returning = false
addEventListener('popstate', () => {
  returning = true
  read()
  returning = false
})

let before = { files: String(open.value), view: view.value }
effect(() => {
  const address = written()
  const now = { files: String(open.value), view: view.value }
  const turned = now.files !== before.files || now.view !== before.view
  before = now
  if (address === (location.search || location.pathname)) return
  // Back goes to the files and the view before, not through every letter that was typed.
  if (turned && !returning) history.pushState(null, '', address)
  else history.replaceState(null, '', address)
})

effect(() => {
  const names = open.value.slice(0, 3).join(', ') + (open.value.length > 3 ? ', …' : '')
  document.title = [view.value === 'files' ? names : TITLES[view.value], 'gooseherd'].filter(Boolean).join(' · ')
})

export const isOpen = (name: string): boolean => open.value.includes(name)

export function show(name: string): void {
  if (!isOpen(name)) open.value = [...open.value, name]
}

export function close(name: string): void {
  open.value = open.value.filter(other => other !== name)
  if (!open.value.length) place.value = ''
}
