// node bundle.mjs FOLDER: the viewers, their readers and the driver, each as one file, from the node_modules here.
import { copyFileSync } from 'node:fs'
import { build } from 'esbuild'

const folder = process.argv[2]
const common = {
  bundle: true, minify: true, logLevel: 'error', legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
}
const browser = (contents, globalName, outfile) => build({
  ...common, format: 'iife', globalName, outfile: `${folder}/${outfile}`,
  stdin: { contents, resolveDir: process.cwd(), loader: 'js' },
  loader: { '.css': 'empty', '.svg': 'dataurl' },
})
await browser("export { embed } from 'gosling.js'", 'gosling', 'gosling.js')
await browser(`
  export { createViewState, JBrowseLinearGenomeView } from '@jbrowse/react-linear-genome-view'
  export { createElement } from 'react'
  export { createRoot } from 'react-dom/client'`, 'jbrowse', 'jbrowse.js')
copyFileSync('node_modules/igv/dist/igv.min.js', `${folder}/igv.js`)
copyFileSync('node_modules/axe-core/axe.min.js', `${folder}/axe.js`)
await build({
  bundle: true, logLevel: 'error', platform: 'node', format: 'cjs', legalComments: 'none',
  entryPoints: ['driver.mjs'], outfile: `${folder}/driver.cjs`,
})
await build({
  bundle: true, logLevel: 'error', platform: 'node', format: 'esm', legalComments: 'none',
  // What of it is CommonJS requires modules of Node.
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)" },
  entryPoints: ['readers.mjs'], outfile: `${folder}/readers.mjs`,
})
