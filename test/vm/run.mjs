// `npm run kernels`: bundles kernels.ts with the source of this checkout into one file that every supported node can run, and runs it.
import { rmSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const bundle = fileURLToPath(new URL(`../../node_modules/.cache/mayfly-kernels-${process.pid}.mjs`, import.meta.url))
await build({
  entryPoints: [fileURLToPath(new URL('kernels.ts', import.meta.url))],
  outfile: bundle,
  bundle: true,
  external: ['esbuild', 'undici'],
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  define: { CHECKOUT: JSON.stringify(fileURLToPath(new URL('../..', import.meta.url))) },
  logLevel: 'warning',
})
const { main } = await import(pathToFileURL(bundle).href).finally(() => rmSync(bundle, { force: true }))
// So that machines end and files go with this process.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1))
process.exitCode = await main(process.argv.slice(2))
