// `npm run bench:compare -- BEFORE.json AFTER.json [--margin PERCENT]`
//
// Both files are of `npm run bench -- --json FILE`. Ends with 1 when something of ours has become slower, larger or less than the noise of both
// runs explains, with 2 for a wrong call.
import { rmSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { build } from 'esbuild'

async function load() {
  const bundle = fileURLToPath(new URL(`../../node_modules/.cache/mayfly-compare-${process.pid}.mjs`, import.meta.url))
  const entry = fileURLToPath(new URL('compare.ts', import.meta.url))
  await build({
    entryPoints: [entry],
    outfile: bundle,
    bundle: true,
    format: 'esm',
    platform: 'node',
    logLevel: 'warning',
  })
  return import(pathToFileURL(bundle).href).finally(() => rmSync(bundle, { force: true }))
}

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { margin: { type: 'string', default: '5' } },
  })
  const margin = Number(values.margin) / 100
  if (positionals.length !== 2 || !(margin >= 0)) throw new Error('Give two files, and --margin as a percentage')
  const { compareFiles, describeComparison } = await load()
  const comparison = compareFiles(...positionals, margin)
  console.log(describeComparison(comparison))
  process.exitCode = comparison.changes.some(({ verdict }) => verdict === 'slower') ? 1 : 0
} catch (error) {
  console.error(`${error.message}\n\nnpm run bench:compare -- BEFORE.json AFTER.json [--margin 5]`)
  process.exitCode = 2
}
