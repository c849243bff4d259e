// node driver.cjs: opens the pages that lines of JSON on standard input name, and prints what became of each.
// {browser, program, profile, args, url, seconds, until, acts, value} -> {enough, pixels, image, requests, console, …}
// With `steps` the page stays open: each further line is one step, {do, …}, and is answered, until {do: 'close'}.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import puppeteer from 'puppeteer-core'

const QUIET = [
  '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
]

const launch = order => puppeteer.launch({
  // Headless Firefox has no WebGL, by which Gosling draws: it gets a display of its own.
  browser: order.browser, executablePath: order.program, headless: order.browser !== 'firefox', userDataDir: order.profile,
  args: [...(order.browser === 'firefox' ? [] : QUIET), ...(order.args ?? [])],
  defaultViewport: { width: 1000, height: 1000 }, protocolTimeout: 120_000,
})

// How many pixels of each box (the viewer's tracks) are neither white nor grey: what marks are drawn in.
const coloured = async (page, image, boxes) => page.evaluate(async (image, boxes) => {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${image}`)).blob())
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height)
  const context = canvas.getContext('2d')
  context.drawImage(bitmap, 0, 0)
  return boxes.map(([x, y, width, height]) => {
    const { data } = context.getImageData(x, y, width, height)
    let found = 0
    for (let i = 0; i < data.length; i += 4) {
      const colours = [data[i], data[i + 1], data[i + 2]]
      if (Math.max(...colours) - Math.min(...colours) > 24) found += 1
    }
    return found
  })
}, image, boxes)

const look = async (page, blank, order) => {
  const image = await page.screenshot({ encoding: 'base64' })
  const boxes = await page.evaluate('window.boxes ? window.boxes() : [[0, 0, innerWidth, innerHeight]]')
  return { image, pixels: await coloured(blank, image, boxes) }
}

const run = async order => {
  const browser = await launch(order)
  const begun = Date.now(), requests = [], lines = [], failed = []
  try {
    const blank = await browser.newPage()
    const page = await browser.newPage()
    page.on('response', response => {
      const request = response.request()
      requests.push({
        url: response.url(), status: response.status(), method: request.method(), ms: Date.now() - begun,
        range: request.headers().range ?? null, type: response.headers()['content-type'] ?? null,
        hops: request.redirectChain().length, cached: response.fromCache(),
      })
    })
    page.on('requestfailed', request => failed.push(`${request.url()} ${request.failure()?.errorText}`))
    page.on('console', message => lines.push(`${message.type()}: ${message.text()}`))
    page.on('pageerror', error => lines.push(`error: ${error.message ?? error}`))
    page.on('dialog', dialog => { lines.push(`dialog: ${dialog.message()}`); dialog.dismiss() })
    if (order.steps) return await steps(browser, page, order, { requests, lines, failed })
    await page.goto(order.url, { waitUntil: 'domcontentloaded', timeout: 60_000 })
    const drawn = async () => {
      const end = Date.now() + order.seconds * 1000
      for (;;) {
        const { image, pixels } = await look(page, blank, order)
        if (order.until.every((least, n) => (pixels[n] ?? 0) >= least)) return { image, pixels, enough: true }
        if (Date.now() > end) return { image, pixels, enough: false }
        await new Promise(later => setTimeout(later, 500))
      }
    }
    let result = await drawn()
    for (const act of order.acts ?? []) {
      console.log(JSON.stringify({ drawn: result.enough, pixels: result.pixels }))
      await next()  // the test does something meanwhile
      await page.evaluate(act)
      await new Promise(later => setTimeout(later, 1000))
      result = await drawn()
    }
    const text = await page.evaluate('document.body.innerText')
    const values = order.value ? await page.evaluate(order.value) : null
    return { ...result, requests, console: lines, failed, text, values, ms: Date.now() - begun }
  } finally {
    await browser.close()
  }
}

// What a test does with a page, one thing at a time.
const STEPS = {
  open: ({ page }, { url }) => page.goto(url, { waitUntil: 'domcontentloaded', timeout: 60_000 }),
  evaluate: ({ page }, { code }) => page.evaluate(code),
  // Not by waitForFunction: that one looks from a world of its own, without the page's variables.
  wait: async ({ page }, { code, seconds }) => {
    for (const end = Date.now() + seconds * 1000; ; await new Promise(later => setTimeout(later, 100))) {
      if (await page.evaluate(code).catch(() => false)) return
      if (Date.now() > end) throw new Error(`not within ${seconds} s: ${code}`)
    }
  },
  click: ({ page }, { selector }) => page.locator(selector).setTimeout(15_000).click(),
  type: async ({ page }, { selector, text }) => {
    if (selector) await page.focus(selector)
    await page.keyboard.type(text)
  },
  press: ({ page }, { key }) => page.keyboard.press(key),
  look: async ({ page }, { dark, width, height }) => {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }])
    await page.setViewport({ width, height })
  },
  picture: ({ page }) => page.screenshot({ encoding: 'base64' }),
  pixels: async ({ browser, page }, { selector }) => {
    const box = await page.evaluate(`(({ x, y, width, height }) => [x, y, width, height])(document.querySelector(${JSON.stringify(selector)}).getBoundingClientRect())`)
    const image = await page.screenshot({ encoding: 'base64' })
    const blank = await browser.newPage()
    const [found] = await coloured(blank, image, [box])
    await blank.close()
    await page.bringToFront()
    return found
  },
  script: ({ page }, { path }) => page.evaluate(readFileSync(path, 'utf8')),
  log: ({ log }) => log,
}
const steps = async (browser, page, order, log) => {
  console.log(JSON.stringify({ result: null }))
  for (let line; (line = await next());) {
    const step = JSON.parse(line)
    if (step.do === 'close') break
    try {
      const result = await STEPS[step.do]({ browser, page, log }, step)
      const told = ['open', 'wait', 'script'].includes(step.do) ? null : result ?? null
      console.log(JSON.stringify({ result: told }))
    } catch (error) {
      console.log(JSON.stringify({ error: String(error?.stack ?? error), text: await page.evaluate('document.body.innerText').catch(() => '') }))
    }
  }
  return { closed: true }
}

const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const next = async () => (await input.next()).value
const main = async () => {
  for (let line; (line = await next());) {
    try {
      console.log(JSON.stringify(await run(JSON.parse(line))))
    } catch (error) {
      console.log(JSON.stringify({ error: String(error?.stack ?? error) }))
    }
  }
}
main()
