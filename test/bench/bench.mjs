// `npm run bench [-- --vs docker,podman,runc] [--only run,exec,…] [--quick] [--json FILE] [--from FILE,FILE] [--write]`
//
// main.ts holds the benchmark. It is TypeScript and measures the source in this checkout, with the native program
// that `npm ci` or `npm run build` has made; here it is bundled into one file that every supported node can run.
import { rmSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'

const bundle = fileURLToPath(new URL(`../../node_modules/.cache/mayfly-bench-${process.pid}.mjs`, import.meta.url))
await build({
  entryPoints: [fileURLToPath(new URL('main.ts', import.meta.url))],
  outfile: bundle,
  bundle: true,
  external: ['undici', 'esbuild', 'pg'], // what else is used has CommonJS in it that node cannot import by name
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  define: { BENCH_DIRECTORY: JSON.stringify(fileURLToPath(new URL('.', import.meta.url))) },
  logLevel: 'warning',
})
const { main } = await import(pathToFileURL(bundle).href).finally(() => rmSync(bundle, { force: true }))
process.exitCode = await main(process.argv.slice(2))
