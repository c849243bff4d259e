// Files in the output of a notebook's cell (anywidget): igv.js on them. What to draw comes from the kernel by messages,
// so that no address with a token is kept in the notebook; the bytes come from the service.
import { NotReady, ready, type Progress } from '../client/gooseherd'

/** The kernel's half, as anywidget gives it (anywidget.dev/en/afm). */
interface Model {
  get(name: string): unknown
  set(name: string, value: unknown): void
  save_changes(): void
  on(event: string, act: (...given: never[]) => void): void
  off(event: string, act: (...given: never[]) => void): void
  send(content: unknown): void
}
interface Reply {
  id: string
  error?: string
  [member: string]: unknown
}
interface Track {
  url: string
}
interface Browser {
  on(event: 'locuschange', act: () => void): void
  currentLoci(): string | string[]
  search(place: string): Promise<unknown>
  loadTrack(track: unknown): Promise<unknown>
}
interface Igv {
  createBrowser(box: HTMLElement, config: unknown): Promise<Browser>
  removeBrowser(browser: Browser): void
}

const STYLE = `
.gooseherd-view { font: 13px/1.6 var(--jp-ui-font-family, system-ui, sans-serif); }
.gooseherd-view ul { list-style: none; margin: 0; padding: 0; }
.gooseherd-view progress { width: 12em; vertical-align: middle; }
.gooseherd-view .bad { color: #b3261e; }
.gooseherd-view .igv-box { background: #fff; color: #222; }
`

let replies = 0

/** Questions to the kernel, which answers each by its id. */
function kernel(model: Model): { ask(what: string, more?: object): Promise<[Reply, DataView[]]>; end(): void } {
  const waiting = new Map<string, { resolve: (reply: [Reply, DataView[]]) => void; reject: (error: Error) => void }>()
  const received = (reply: Reply, buffers: DataView[]): void => {
    const asked = waiting.get(reply.id)
    waiting.delete(reply.id)
    if (reply.error !== undefined) asked?.reject(new Error(reply.error))
    else asked?.resolve([reply, buffers])
  }
  model.on('msg:custom', received as never)
  return {
    ask: (what, more = {}) =>
      new Promise((resolve, reject) => {
        const id = `${Date.now()}-${replies++}`
        waiting.set(id, { resolve, reject })
        model.send({ ...more, id, what })
      }),
    end: () => model.off('msg:custom', received as never),
  }
}

/** igv.js, from the kernel's machine: no other host is asked. Once for all views of a page. */
const shared = globalThis as { gooseherdIgv?: Promise<Igv> | undefined }
async function loadIgv(ask: ReturnType<typeof kernel>['ask']): Promise<Igv> {
  shared.gooseherdIgv ??= (async () => {
    const [, [packed]] = await ask('igv')
    const stream = new Blob([packed as unknown as BlobPart]).stream().pipeThrough(new DecompressionStream('gzip'))
    const address = URL.createObjectURL(new Blob([await new Response(stream).text()], { type: 'text/javascript' }))
    try {
      return (await import(address)).default as Igv
    } finally {
      URL.revokeObjectURL(address)
    }
  })()
  try {
    return await shared.gooseherdIgv
  } catch (error) {
    shared.gooseherdIgv = undefined
    throw error
  }
}

/** Addresses that name only a path are on the notebook's own server (a proxy in front of the service). */
const absolute = <T>(spec: T): T =>
  JSON.parse(JSON.stringify(spec), (name, value) => (/url$/i.test(name) && typeof value === 'string' ? new URL(value, location.href).href : value)) as T

/** Whole bases, without separators; empty before igv.js knows its place. */
const written = (loci: string | string[]): string => {
  const text = Array.isArray(loci) ? loci.join(' ') : (loci ?? '')
  return text.includes('undefined') ? '' : text.replaceAll(',', '').replace(/\d+\.\d+/g, number => String(Math.round(Number(number))))
}

const element = <K extends keyof HTMLElementTagNameMap>(name: K, text = '', className = ''): HTMLElementTagNameMap[K] => {
  const made = document.createElement(name)
  if (text) made.textContent = text
  if (className) made.className = className
  return made
}

/** One view; what it gives back ends it. */
function show(model: Model, root: HTMLElement): () => void {
  const { ask, end } = kernel(model)
  const stop = new AbortController()
  const list = element('ul'), notes = element('ul'), box = element('div', '', 'igv-box')
  list.setAttribute('aria-label', 'Files')
  box.setAttribute('role', 'region')
  box.setAttribute('aria-label', 'Genome browser')
  root.replaceChildren(element('style', STYLE), list, notes, box)

  let browser: Browser | undefined, igv: Igv | undefined, reference = '', sizes = ''
  const drawn = new Set<string>(), there: string[] = []
  const trouble = (error: unknown): void => {
    if (!stop.signal.aborted) notes.append(element('li', error instanceof Error ? error.message : String(error), 'bad'))
  }

  const draw = async (): Promise<void> => {
    const [reply] = await ask('spec', { files: there })
    if (stop.signal.aborted) return
    notes.replaceChildren(...(reply.notes as string[]).map(note => element('li', note)))
    const spec = absolute(reply.spec as { reference?: { format?: string; fastaURL?: string }; tracks: Track[] } | null)
    if (!spec?.reference) return
    igv ??= await loadIgv(ask)
    const fresh = JSON.stringify(reply.reference)
    if (browser && fresh !== reference) {
      igv.removeBrowser(browser)
      browser = undefined
      drawn.clear()
    }
    if (!browser) {
      // The lengths of the sequences came along: no request, and no token in its address.
      if (spec.reference.format === 'chromsizes') {
        URL.revokeObjectURL(sizes)
        sizes = spec.reference.fastaURL = URL.createObjectURL(new Blob([reply.sizes as string]))
      }
      reference = fresh
      const at = model.get('at') as string
      const made = await igv.createBrowser(box, {
        ...spec, ...(at ? { locus: at } : {}),
        loadDefaultGenomes: false, search: false, queryParametersSupported: false, showSVGButton: false,
      })
      if (stop.signal.aborted) return igv.removeBrowser(made)
      browser = made
      made.on('locuschange', moved)
      for (const [selector, name] of Object.entries({ 'select': 'Sequence', '.igv-search-input': 'Place', 'input[type=range]': 'Zoom' })) {
        box.shadowRoot?.querySelectorAll(selector).forEach(one => one.setAttribute('aria-label', name))
      }
    } else {
      for (const track of spec.tracks) if (!drawn.has(plain(track.url))) await browser.loadTrack(track)
    }
    for (const track of spec.tracks) drawn.add(plain(track.url))
    root.dataset.drawn = String(drawn.size)
  }
  const plain = (url: string): string => url.split('?')[0]!

  // -- the place: of the browser and of the kernel's object
  let timer: ReturnType<typeof setTimeout> | undefined
  const moved = (): void => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      const now = browser && written(browser.currentLoci())
      if (!now || now === model.get('at')) return
      model.set('at', now)
      model.save_changes()
    }, 250)
  }
  const sent = (): void => {
    const wanted = model.get('at') as string
    if (browser && wanted && wanted !== written(browser.currentLoci())) browser.search(wanted).catch(trouble)
  }
  model.on('change:at', sent)

  // -- the files: each is waited for, and drawn when it is there
  let drawing = Promise.resolve()
  const wait = async (name: string, url: string, isReference = false): Promise<void> => {
    const item = element('li'), bar = element('progress'), text = element('span', ' asked for')
    bar.max = 100
    bar.setAttribute('aria-label', `Progress of ${name}`)
    text.setAttribute('role', 'status')
    item.append(element('b', name), ' ', bar, text)
    list.append(item)
    const onProgress = (progress: Progress): void => {
      bar.value = Math.max(bar.value, progress.percent)
      text.textContent = ` ${progress.text}`
    }
    try {
      await ready(url, { signal: stop.signal, onProgress })
      item.remove()
      if (isReference) return
      there.push(name)
      drawing = drawing.then(draw).catch(trouble)
    } catch (error) {
      if (stop.signal.aborted) return
      bar.remove()
      text.textContent = ` ${error instanceof NotReady ? error.message : String(error)}`
      text.className = 'bad'
    }
  }
  const waiting = setTimeout(() => {
    notes.replaceChildren(element('li', 'The kernel does not answer: run the cell again.'))
  }, 15_000)
  ask('files').then(([reply]) => {
    clearTimeout(waiting)
    notes.replaceChildren()
    if (stop.signal.aborted) return
    const at = (url: string): string => new URL(url, location.href).href
    const reference = reply.reference as { name: string; url: string } | null
    // Nothing is drawn on other sequences first; without it when it cannot be made.
    if (reference) drawing = wait(reference.name, at(reference.url), true)
    for (const { name, url } of reply.files as { name: string; url: string }[]) void wait(name, at(url))
  }).catch((error: unknown) => {
    clearTimeout(waiting)
    trouble(error)
  })

  return () => {
    stop.abort()
    clearTimeout(waiting)
    clearTimeout(timer)
    end()
    model.off('change:at', sent)
    if (browser) igv?.removeBrowser(browser)
    URL.revokeObjectURL(sizes)
    delete root.dataset.drawn
    root.replaceChildren()
  }
}

export default {
  render({ model, el }: { model: Model; el: HTMLElement }): () => void {
    const root = element('div', '', 'gooseherd-view')
    el.append(root)
    let close = show(model, root)
    const again = (): void => {
      close()
      close = show(model, root)
    }
    model.on('change:files', again)
    return () => {
      model.off('change:files', again)
      close()
      root.remove()
    }
  },
}
