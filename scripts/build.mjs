// Builds the package: TypeScript to dist/, and the native program to native/build/.
//
//   dist/esm/**   every module of the library, one to one, as ES module, with declarations
//   dist/cjs/**   the same as CommonJS (Jest loads nothing else), with the same declarations
//   dist/cli/**   the command line, bundled into one file, commander included
//
// Modules stay separate files in both formats: an error class is the same object from whichever entry it comes, and
// what is imported lazily is loaded lazily.
//
// npm runs this as `prepare`, also when somebody installs from a git checkout.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

/** Keeps one module one file: imports of our own modules stay, under the name that the built file has. */
const ownModulesStay = {
  name: 'own-modules-stay',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.?\// }, ({ kind, path }) =>
      kind === 'entry-point' ? undefined : { path: path.replace(/\.ts$/, '.js'), external: true },
    )
  },
}

// The first lines of the command are for sh, which starts node with `--`: without it node 20 takes an --env-file among the
// command's own flags for itself, loads it, and ends with code 9 when there is no such file. For JavaScript it is a string
// and a comment. (`env -S` would do, but busybox has no -S.)
const RUN_NODE = `':' //; exec node -- "$0" "$@"`

const ES_MODULE = { format: 'esm', platform: 'node', target: 'node20.19', logLevel: 'warning' }
const COMMONJS = {
  ...ES_MODULE,
  format: 'cjs',
  // Jest runs CommonJS in a context where import() is forbidden; require() is as lazy.
  supported: { 'dynamic-import': false },
  define: { 'import.meta.url': 'importMetaUrl' },
}
const IMPORT_META_URL = "const importMetaUrl = require('node:url').pathToFileURL(__filename).href;"
// Bundled CommonJS (commander) asks for node's modules with require().
const REQUIRE = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"

/** A build that failed has said why on stderr already. */
function run(program, args) {
  const { status, error } = spawnSync(program, args, { stdio: 'inherit' })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

function modules(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
}

function buildNative() {
  for (const program of ['make', 'gcc']) {
    if (spawnSync(program, ['--version'], { stdio: 'ignore' }).error) {
      console.error(
        `mayfly: ${program} is not installed, so the native program cannot be built from this checkout.\n` +
          '  Hint: apt-get install gcc make libc6-dev (or your distribution’s names for them)',
      )
      process.exit(1)
    }
  }
  run('make', ['--no-print-directory', '-s', '-C', 'native', '-j2'])
}

async function buildTypeScript() {
  rmSync('dist', { recursive: true, force: true })
  const oneToOne = { outbase: 'src', bundle: true, packages: 'external', plugins: [ownModulesStay] }
  const library = modules('src').filter((file) => !file.startsWith('src/cli/'))
  await Promise.all([
    build({ ...ES_MODULE, ...oneToOne, entryPoints: library, outdir: 'dist/esm' }),
    build({ ...COMMONJS, ...oneToOne, entryPoints: library, outdir: 'dist/cjs', banner: { js: IMPORT_META_URL } }),
    build({
      ...ES_MODULE,
      entryPoints: ['src/cli/mayfly.ts'],
      outdir: 'dist/cli',
      bundle: true,
      splitting: true,
      chunkNames: '[name]-[hash]',
      banner: { js: `${RUN_NODE}\n${REQUIRE}` },
    }),
  ])
  chmodSync('dist/cli/mayfly.js', 0o755)
  run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'])
  cpSync('dist/esm', 'dist/cjs', {
    recursive: true,
    filter: (source) => !source.endsWith('.js'),
  })
  writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n')
}

// An installed package has no sources and nothing to build.
if (existsSync('src')) {
  buildNative()
  await buildTypeScript()
}
