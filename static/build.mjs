// Builds the page into the folder given as the only argument: hashed names, a .gz beside each file, an index that
// names them; and in `client/` the module for other frontends, with its types. Both share their code. Run by build.rs; by
// hand: npm run build -- FOLDER
import { build } from 'esbuild'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'

/** What a browser loads before the page works may not grow past this. */
const FIRST_LOAD_GZ = 250 * 1024

if (process.argv[2] === undefined) throw new Error('usage: node build.mjs FOLDER')
const out = path.resolve(process.argv[2])
fs.rmSync(out, { recursive: true, force: true })
const { metafile } = await build({
  entryPoints: [{ in: 'src/main.tsx', out: 'main' }, { in: 'client/index.ts', out: 'client' }],
  outdir: path.join(out, 'assets'),
  bundle: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  minify: true,
  metafile: true,
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  define: { 'process.env.NODE_ENV': '"production"' },
  // Small enough to travel in the script; the page's policy allows data: for images.
  loader: { '.svg': 'dataurl' },
  logLevel: 'warning'
})

const outputs = metafile.outputs
const madeOf = (source) => Object.keys(outputs).find((name) => outputs[name].entryPoint === source)
const entry = madeOf('src/main.tsx')
const styles = outputs[entry].cssBundle
/** The entry and all that it imports before it runs. */
const first = new Set([entry])
for (const name of first) {
  for (const { path: imported, kind } of outputs[name].imports) {
    if (kind === 'import-statement') first.add(imported)
  }
}
const link = (name) => path.relative(out, name).replaceAll(path.sep, '/')

const icon = fs.readFileSync('favicon.svg')
const iconName = `assets/favicon-${createHash('sha256').update(icon).digest('hex').slice(0, 8)}.svg`
fs.writeFileSync(path.join(out, iconName), icon)

const head = [
  `<link rel="icon" type="image/svg+xml" href="${iconName}">`,
  `<link rel="stylesheet" href="${link(styles)}">`,
  ...[...first].filter((name) => name !== entry).map((name) => `<link rel="modulepreload" href="${link(name)}">`),
  `<script type="module" src="${link(entry)}"></script>`
]
const index = fs.readFileSync('index.html', 'utf8').replace('<!-- built -->', () => head.join('\n'))
fs.writeFileSync(path.join(out, 'index.html'), index)

// The names of what it loads hold hashes; its own does not.
const client = path.join(out, 'client')
fs.mkdirSync(client)
fs.writeFileSync(path.join(client, 'index.js'), `export * from '../${link(madeOf('client/index.ts'))}'\n`)
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.client.json', '--outDir', client],
  { stdio: 'inherit' })

const sizes = new Map()
for (const folder of [out, path.join(out, 'assets'), client]) {
  for (const name of fs.readdirSync(folder)) {
    const file = path.join(folder, name)
    if (!fs.statSync(file).isFile()) continue
    const packed = gzipSync(fs.readFileSync(file), { level: 9 })
    fs.writeFileSync(`${file}.gz`, packed)
    sizes.set(file, packed.length)
  }
}
const firstLoad = [...first, styles].reduce((sum, name) => sum + sizes.get(path.resolve(name)), 0)
console.log(`page: ${sizes.size} files, first load ${Math.round(firstLoad / 1024)} KB gz`)
if (firstLoad > FIRST_LOAD_GZ) {
  throw new Error(`the first load is ${firstLoad} bytes gz, more than ${FIRST_LOAD_GZ}: load the new part lazily`)
}
