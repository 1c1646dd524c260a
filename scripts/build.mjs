// Builds the package: TypeScript to dist/, and the native program to native/build/.
//
//   dist/cjs/**   every module of the library, one to one, as CommonJS (Jest loads nothing else), with declarations; of those that are
//                 always loaded together, the code lies in one file, dist/cjs/bundle/*, and the module only names its part
//   dist/esm/**   for each entry an ES module with the same names, from dist/cjs; mayfly/vitest as it is, for Vitest is ES modules only
//   dist/cli/**   the command line, commander included, on top of dist/cjs
//
//   dist/cjs/engine/vendor/**   what brings a package of others with it, bundled; loaded when needed
//
// There is one copy of the code: whoever imports and whoever requires it share one engine and the same error classes, and the package
// is half as large. What is imported lazily is loaded lazily.
//
// npm runs this as `prepare`, also when somebody installs from a git checkout.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
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

/** For what is built to somewhere else than dist/cjs: what lies outside of its own directory is imported from there. */
const otherModulesFromCjs = {
  name: 'other-modules-from-cjs',
  setup({ onResolve, initialOptions: { entryPoints, outdir } }) {
    const own = resolve(dirname(entryPoints[0]))
    onResolve({ filter: /^\.\.?\/.*\.js$/ }, ({ kind, path, resolveDir }) => {
      const target = resolve(resolveDir, path)
      const isOurs = target.startsWith(`${resolve('src')}/`) && !target.startsWith(`${own}/`)
      if (kind === 'entry-point' || !isOurs) return undefined
      return { path: relative(resolve(outdir), target.replace(resolve('src'), resolve('dist/cjs'))), external: true }
    })
  },
}

/** seek-bzip still says `new Buffer`, of which Node warns once the package's name is no longer in the path. */
const newBufferIsDeprecated = {
  name: 'new-buffer-is-deprecated',
  setup({ onLoad }) {
    onLoad({ filter: /seek-bzip\/lib\/\w+\.js$/ }, async ({ path }) => ({
      contents: (await readFile(path, 'utf8')).replaceAll('new Buffer(', 'Buffer.alloc('),
    }))
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

/**
 * What is loaded together at `import 'mayfly'`, and at the first start. To find, read and compile a file costs node about 0.4 ms, whatever is in it, and
 * every test file of every worker pays for each.
 */
const BUNDLES = { library: 'src/index.ts', engine: 'src/backends/embedded.ts' }

/** Puts each bundle's modules into one file; what was their own file gives its exports from there. */
async function bundleTogether() {
  const bundled = new Set()
  for (const [name, entry] of Object.entries(BUNDLES)) {
    const others = new Set(bundled)
    const own = await loadedWith(entry, others)
    const file = `dist/cjs/bundle/${name}.js`
    const source = own.map((module, i) => `export * as module${i} from './${module}'`).join('\n')
    await build({
      ...COMMONJS,
      bundle: true,
      packages: 'external',
      stdin: { contents: source, resolveDir: root },
      outfile: file,
      plugins: [stayOutside(others, dirname(file))],
      banner: { js: IMPORT_META_URL },
    })
    writeFileSync(file, withNames(readFileSync(file, 'utf8')))
    for (const [i, module] of own.entries()) {
      await takeFrom(file, `module${i}`, module)
      bundled.add(module)
    }
  }
}

/** A class that speaks of itself gets another name in a bundle, `_GenericContainer`: to whoever prints an instance it has its own. */
function withNames(code) {
  return code.replace(
    /^var (\w+) = class _\1(?: extends [\w.]+)? \{$/gm,
    "$& static { Object.defineProperty(this, 'name', { value: '$1' }) }",
  )
}

/** The modules that a module loads when it is loaded, itself among them, but for the others. */
async function loadedWith(entry, others) {
  const plugins = [stayOutside(others, '')]
  const { metafile } = await build({
    ...COMMONJS,
    bundle: true,
    packages: 'external',
    entryPoints: [entry],
    outfile: 'x.js',
    plugins,
    write: false,
    metafile: true,
  })
  return Object.keys(metafile.inputs).sort()
}

/** Leaves out of a bundle in a directory what is loaded lazily, and the others: both are asked for where they are. */
function stayOutside(others, directory) {
  return {
    name: 'stay-outside',
    setup({ onResolve }) {
      onResolve({ filter: /^\.\.?\/.*\.js$/ }, ({ kind, path, resolveDir }) => {
        const module = relative(root, resolve(resolveDir, path)).replace(/\.js$/, '.ts')
        if (kind !== 'dynamic-import' && !others.has(module)) return undefined
        return { path: relative(directory, built(module)), external: true }
      })
    },
  }
}

/** The file that a source becomes in dist/cjs. */
const built = (module) => module.replace(/^src/, 'dist/cjs').replace(/\.ts$/, '.js')

/** Makes the file of a module one that gives what another file has under a name. */
async function takeFrom(file, name, module) {
  const { metafile } = await build({
    ...ES_MODULE,
    bundle: true,
    plugins: [ownModulesStay],
    packages: 'external',
    entryPoints: [module],
    outfile: 'x.js',
    write: false,
    metafile: true,
  })
  const { exports } = Object.values(metafile.outputs)[0]
  const path = relative(dirname(built(module)), file)
  // The second line is for node, which reads the names of CommonJS without running it.
  const text = [
    `module.exports = require('${path.startsWith('.') ? path : `./${path}`}').${name}`,
    `0 && (module.exports = { ${exports.join(', ')} })`,
  ]
  writeFileSync(built(module), `${text.join('\n')}\n`)
}

/** The sources of what package.json exports. */
function entries() {
  const { exports } = JSON.parse(readFileSync('package.json', 'utf8'))
  const built = Object.values(exports).map((target) => target?.import?.default ?? target?.default)
  return built.filter(Boolean).flatMap((path) => expand(path.replace('./dist/esm/', 'src/').replace(/\.js$/, '.ts')))
}

/** What a path stands for that may have one `*`, in the place of a file's name. */
function expand(path) {
  if (!path.includes('*')) return existsSync(path) ? [path] : []
  return modules(dirname(path)).filter((file) => dirname(file) === dirname(path))
}

async function buildTypeScript() {
  rmSync('dist', { recursive: true, force: true })
  const isVendor = (file) => file.startsWith('src/engine/vendor/')
  const isElsewhere = (file) => /^src\/(cli|vitest)\//.test(file) || file.endsWith('.d.ts')
  const library = modules('src').filter((file) => !isElsewhere(file))
  const oneToOne = { outbase: 'src', bundle: true, packages: 'external', plugins: [ownModulesStay] }
  const vendor = { ...oneToOne, packages: 'bundle', plugins: [newBufferIsDeprecated], legalComments: 'inline' }
  const elsewhere = { bundle: true, splitting: true, chunkNames: '[name]-[hash]', plugins: [otherModulesFromCjs] }
  const isVitest = (file) => file.startsWith('src/vitest/')
  const vitest = entries().filter(isVitest)
  await Promise.all([
    build({
      ...COMMONJS,
      ...oneToOne,
      entryPoints: library.filter((file) => !isVendor(file)),
      outdir: 'dist/cjs',
      banner: { js: IMPORT_META_URL },
    }),
    // Nobody looks for their own mistake in there, and undici is large.
    build({ ...COMMONJS, ...vendor, entryPoints: library.filter(isVendor), outdir: 'dist/cjs', minify: true }),
    build({
      ...ES_MODULE,
      ...elsewhere,
      entryPoints: ['src/cli/mayfly.ts'],
      outdir: 'dist/cli',
      minifyWhitespace: true, // the package is to stay below 5 MB
      banner: { js: `${RUN_NODE}\n${REQUIRE}` },
    }),
    vitest.length > 0 &&
      build({ ...ES_MODULE, ...elsewhere, packages: 'external', entryPoints: vitest, outdir: 'dist/esm/vitest' }),
  ])
  await bundleTogether()
  chmodSync('dist/cli/mayfly.js', 0o755)
  writeFileSync('dist/cjs/package.json', '{ "type": "commonjs" }\n')
  // xz-decompress has its terms in its first lines, which stay.
  for (const name of ['fzstd', 'seek-bzip', 'undici']) {
    cpSync(`node_modules/${name}/LICENSE`, `dist/cjs/engine/vendor/${name}.LICENSE`)
  }
  run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'])
  const others = entries().filter((file) => !isVitest(file))
  await writeEsModules(oneToOne, others)
  if (vitest.length > 0) for (const file of modules('src/vitest')) writeVitestTypes(file)
  rmSync('dist/cjs/vitest', { recursive: true, force: true })
}

/** Names are written out: what `export *` finds in CommonJS is not the same in every version of Node. */
async function writeEsModules(oneToOne, files) {
  const { metafile } = await build({
    ...ES_MODULE,
    ...oneToOne,
    entryPoints: files,
    outdir: 'dist/esm',
    write: false,
    metafile: true,
  })
  for (const [file, { exports }] of Object.entries(metafile.outputs)) {
    const target = relative(dirname(file), file.replace('dist/esm', 'dist/cjs'))
    mkdirSync(dirname(file), { recursive: true })
    const names = exports.filter((name) => name !== 'default')
    const hasDefault = names.length < exports.length
    // For an ES module, the default of CommonJS is all of its exports.
    const byDefault = hasDefault ? `import all from '${target}'\nexport default all.default\n` : ''
    const byName = names.length > 0 ? `export { ${names.join(', ')} } from '${target}'\n` : ''
    const defaultType = hasDefault ? `export { default } from '${target}'\n` : ''
    writeFileSync(file, byDefault + byName)
    writeFileSync(file.replace(/\.js$/, '.d.ts'), `${defaultType}export * from '${target}'\n`)
  }
}

/** The declarations of an ES module that takes the rest of the library from dist/cjs. */
function writeVitestTypes(file) {
  const name = basename(file, '.ts')
  const text = readFileSync(`dist/cjs/vitest/${name}.d.ts`, 'utf8')
  writeFileSync(`dist/esm/vitest/${name}.d.ts`, text.replaceAll(/(['"])\.\.\//g, '$1../../cjs/'))
}

// An installed package has no sources and nothing to build.
if (existsSync('src')) {
  buildNative()
  await buildTypeScript()
}
