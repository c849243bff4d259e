// node build.mjs [FOLDER]: the pages, igv.js, RapiDoc, gooseherd.js and widget.js, with their licences, into FOLDER
// (src/gooseherd/api/static). The same sources and lock file give the same bytes.
// Files with ten hexadecimal digits in their name never change; the service lets clients keep those for a year.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import ts from 'typescript'

const here = dirname(fileURLToPath(import.meta.url))
const folder = process.argv[2] ?? join(here, '../src/gooseherd/api/static')
const read = name => readFileSync(join(here, name), 'utf8')
const modules = name => join('node_modules', name)
const version = name => JSON.parse(read(modules(`${name}/package.json`))).version

const files = new Map()
const add = (name, text) => {
  files.set(name, text)
  return name
}
/** Under a name of its content. */
const keep = (stem, suffix, text) =>
  add(`${stem}-${createHash('sha256').update(text).digest('hex').slice(0, 10)}.${suffix}`, text)

const bundled = async (entry, options = {}) => {
  const { outputFiles } = await build({
    absWorkingDir: here, entryPoints: [entry], bundle: true, minify: true, write: false, format: 'esm', target: 'es2022',
    outdir: 'out', legalComments: 'none', charset: 'utf8', logLevel: 'warning', jsx: 'automatic', jsxImportSource: 'preact',
    ...options,
  })
  return Object.fromEntries(outputFiles.map(file => [file.path.split('.').pop(), file.text]))
}
const vendored = (name, file, change = text => text) => {
  const text = change(read(modules(`${name}/${file}`))).replace(/^\/\/# sourceMappingURL=.*$/m, '').trimEnd() + '\n'
  return keep(`${name}-${version(name)}`, 'js', text)
}

// -- gooseherd.js: by its plain name, and by the version of its interface.
const client = await bundled('client/gooseherd.ts')
add('gooseherd.js', client.js)
add('gooseherd-1.js', client.js)
const declared = ts.transpileDeclaration(read('client/gooseherd.ts'), {
  fileName: 'gooseherd.ts', reportDiagnostics: true,
  compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, isolatedDeclarations: true },
})
if (declared.diagnostics?.length) {
  throw new Error(declared.diagnostics.map(one => ts.flattenDiagnosticMessageText(one.messageText, '\n')).join('\n'))
}
add('gooseherd.d.ts', declared.outputText)
// The npm package has the same two (client/package.json).
mkdirSync(join(here, 'client/dist'), { recursive: true })
for (const name of ['gooseherd.js', 'gooseherd.d.ts']) writeFileSync(join(here, 'client/dist', name), files.get(name))

// -- the view of notebooks, which the Python client carries to them
add('widget.js', (await bundled('src/widget.ts')).js)

// -- the pages
// When a file cannot be read, igv.js looks for its new address in a table on its own site. Nothing is asked elsewhere: an empty one.
const TABLE = '"https://igv.org/data/url_mappings.tsv"'
const igv = vendored('igv', 'dist/igv.esm.min.js', text => {
  const parts = text.split(TABLE)
  if (parts.length !== 2) throw new Error(`igv.js names ${TABLE} ${parts.length - 1} times`)
  return parts.join('"data:,"')
})
const rapidoc = vendored('rapidoc', 'dist/rapidoc-min.js')
const page = await bundled('src/page.tsx', { define: { IGV_FILE: JSON.stringify(`./${igv}`) }, external: ['./igv-*'] })
const docs = await bundled('src/docs.ts')
const html = (name, names) =>
  add(name, Object.entries(names).reduce((text, [key, file]) => text.replaceAll(`{${key}}`, file), read(`src/${name}`)))
html('index.html', { script: keep('page', 'js', page.js), style: keep('page', 'css', page.css) })
html('docs.html', { script: keep('docs', 'js', docs.js), style: keep('docs', 'css', docs.css), rapidoc })

// -- licences: of the packages, and what their bundles say of those inside them
const LICENCED = [
  'preact', '@preact/signals', '@preact/signals-core', 'igv', 'rapidoc', 'lit', 'lit-html', 'lit-element', '@lit/reactive-element',
  'marked', 'prismjs', 'randexp', 'ret', 'drange', 'buffer', 'base64-js', 'ieee754', 'base64-arraybuffer', 'xml-but-prettier', '@apitools/openapi-parser',
]
const licence = name => {
  const found = readdirSync(join(here, modules(name))).find(file => /^licen[cs]e/i.test(file))
  const { license, author } = JSON.parse(read(modules(`${name}/package.json`)))
  const by = typeof author === 'string' ? author : author?.name
  return found ? read(modules(`${name}/${found}`)) : `${license}${by ? `, by ${by}` : ''} (the package has no text of it)`
}
const legal = text => [...new Set(text.match(/\/\*[!*][\s\S]*?\*\//g) ?? [])].filter(one => /licen[cs]|copyright|\(c\)/i.test(one))
const titled = (title, text) => `${'='.repeat(80)}\n${title}\n${'='.repeat(80)}\n\n${text.trim()}\n`
add('licenses.txt', [
  'Licences of what the files beside this one were built from.\n',
  ...LICENCED.map(name => titled(`${name} ${version(name)}`, licence(name))),
  titled('Inside igv.js', legal(read(modules('igv/dist/igv.esm.js'))).join('\n\n')),
  titled('Inside RapiDoc', read(modules('rapidoc/dist/rapidoc-min.js.LICENSE.txt'))),
].join('\n'))

mkdirSync(folder, { recursive: true })
for (const name of readdirSync(folder)) {
  if (!files.has(name)) rmSync(join(folder, name))
}
for (const [name, text] of files) {
  const path = join(folder, name)
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text)
}
