// `npm run chaos`, `npm run load`, `npm run soak`: bundles the program of that name (chaos.ts, load.ts, soak.ts) with the source of this checkout
// into one file that every supported node can run, and runs it with the remaining arguments.
import { rmSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const [name, ...args] = process.argv.slice(2)
const bundle = fileURLToPath(new URL(`../../node_modules/.cache/mayfly-${name}-${process.pid}.mjs`, import.meta.url))
await build({
  entryPoints: [fileURLToPath(new URL(`${name}.ts`, import.meta.url))],
  outfile: bundle,
  bundle: true,
  external: ['undici', 'esbuild'], // what else is used has CommonJS in it that node cannot import by name
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  define: { CHAOS_DIRECTORY: JSON.stringify(fileURLToPath(new URL('.', import.meta.url))) },
  logLevel: 'warning',
})
const { main } = await import(pathToFileURL(bundle).href).finally(() => rmSync(bundle, { force: true }))
// So that whatever was made is taken back at exit.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1))
process.exitCode = await main(args)
