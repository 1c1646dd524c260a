// The images of the demo: from the store, else from Docker Hub or its mirrors, else built here from Debian's packages.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const { RegistryClient } = require('../../dist/cjs/engine/registry/client.js')
const { withSource } = require('../../dist/cjs/engine/registry/resolve.js')
const { Transport } = require('../../dist/cjs/engine/registry/transport.js')
const { parseReference } = require('../../dist/cjs/engine/image/reference.js')

const BASE = 'debian:bookworm-slim'
const REGISTRY_LIMIT_MS = 3_000

/**
 * The image to use for the service, as a reference. What is being done goes to `tell`: `say` takes lines, `took` milliseconds and what
 * was done in them.
 */
export async function findImage(engine, { name, reference }, tell) {
  const { say } = tell
  const built = `mayfly-demo/${name}:latest`
  if (await has(engine, reference)) {
    say(`  ${reference} is here already.`)
    return reference
  }
  const obstacle = await tryRegistry(reference)
  if (obstacle === undefined && (await pull(engine, reference, tell))) return reference
  if (obstacle !== undefined) say(`  ${reference}: ${obstacle}. It is built here, from Debian's packages.`)
  // What was built before is in the build cache: that takes a moment, and a changed Dockerfile is built anew.
  await build(engine, name, built, tell)
  return built
}

const has = (engine, reference) =>
  engine.images.get(reference).then(
    () => true,
    () => false,
  )

/** Asks the registry, or one of its mirrors, for the image's digest. Resolves to what is in the way. */
async function tryRegistry(text) {
  const reference = parseReference(text)
  const transport = new Transport({ attempts: 1 })
  const signal = AbortSignal.timeout(REGISTRY_LIMIT_MS)
  const purpose = { action: 'pull', subject: text }
  const open = ({ registry, repository }) => new RegistryClient({ transport, registry, repository, purpose, signal })
  try {
    await withSource(reference, open, (client, source) => client.resolve(source.tag))
    return undefined
  } catch (error) {
    if (signal.aborted) return `its registry does not answer within ${REGISTRY_LIMIT_MS / 1000} s`
    if (error.code === 'REGISTRY_UNREACHABLE') return 'its registry is out of reach'
    return error.message.split('\n')[0]
  } finally {
    await transport.close()
  }
}

/** Whether it is here now. */
async function pull(engine, reference, { say, took }) {
  const begin = performance.now()
  const layers = new Map()
  const onProgress = (event) => {
    if (event.type !== 'layer') return
    layers.set(event.id, event)
    const all = [...layers.values()]
    const megabytes = (key) => (all.reduce((sum, layer) => sum + layer[key], 0) / 1e6).toFixed(0)
    say(`  ${reference}: ${megabytes('current')} of ${megabytes('total')} MB`, { isPassing: true })
  }
  try {
    await engine.images.pull(reference, { onProgress })
    took(performance.now() - begin, `${reference}, from its registry`)
    return true
  } catch (error) {
    say(`  ${reference} cannot be pulled: ${error.message.split('\n')[0]}`)
    return false
  }
}

async function build(engine, name, tag, { say, took }) {
  if (!(await has(engine, BASE))) {
    const begin = performance.now()
    say(`  ${BASE}, the base of it, is made from the package mirror, once. That takes about half a minute.`)
    await engine.images.bootstrap(BASE, { onProgress: ({ text = '' }) => say(`  ${text}`, { isPassing: true }) })
    took(performance.now() - begin, BASE)
  }
  const begin = performance.now()
  const directory = fileURLToPath(new URL(`../../examples/images/${name}`, import.meta.url))
  const steps = new Map()
  const onEvent = (event) => {
    if (event.type === 'started') steps.set(event.vertex, event.text)
    if (event.type === 'output') {
      const [line] = Buffer.from(event.data).toString().trim().split('\n').slice(-1)
      say(`  ${steps.get(event.vertex) ?? ''} ${line}`, { isPassing: true })
    }
  }
  await engine.images.build({ context: { directory }, tags: [tag], onEvent })
  took(performance.now() - begin, `${tag}, from the Dockerfile in examples/images/${name}`)
}
