// The focus is kept: when what has it is taken away, the nearest thing that is left gets it, not the page's body.

/** What had the focus last, and all around it, from within. */
let path: HTMLElement[] = []

document.addEventListener('focusin', event => {
  path = event.composedPath().filter((one): one is HTMLElement => one instanceof HTMLElement)
})
document.addEventListener('focusout', () => {
  // Somebody pointed at nothing that takes it: that is no loss.
  setTimeout(() => {
    if (document.activeElement === document.body && path[0]?.isConnected) path = []
  })
})

const TAKES = 'button:enabled, input:enabled, select:enabled, a[href], summary'

/** First the current row of a list, or the text that scrolls; else what comes first. */
const inside = (box: HTMLElement): HTMLElement | null => box.querySelector('[tabindex="0"]') ?? box.querySelector(TAKES)

new MutationObserver(() => {
  if (document.activeElement !== document.body || !path.length || path[0]!.isConnected) return
  for (const left of path.filter(one => one.isConnected && one !== document.body)) {
    const next = left.matches('[tabindex]') ? left : inside(left)
    if (!next) continue
    next.focus({ preventScroll: next !== left })
    return
  }
}).observe(document.getElementById('page')!, { childList: true, subtree: true })
