/** Pulling an image from a docker-registry on the loopback: time beside other engines, and memory. */

import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { type BuildOptions, build } from 'esbuild'
import { digestOfBytes } from '../../../src/engine/image/digest-of.ts'
import { pull as pullImage } from '../../../src/engine/registry/pull.ts'
import { Session } from '../../../src/engine/session.ts'
import { Store } from '../../../src/engine/store/store.ts'
import { packageRoot, wardenProgram } from '../../../src/engine/where.ts'
import { type PublishedLayer, publish } from '../../support/publish.ts'
import { missingRegistry, type Registry, startRegistry } from '../../support/registry.ts'
import { alternate, type Contender, median, timed } from '../measure.ts'
import { duration, milliseconds, type Row, times } from '../table.ts'
import type { Measurement, Scene } from './scene.ts'

const execute = promisify(execFile)
const MEMORY_GOAL = 100 << 20
const LARGE_LAYERS = 8
const LARGE_LAYER_BYTES = 128 << 20

export const pull: Measurement = async (scene) => {
  const missing = missingRegistry() ?? (existsSync('/usr/bin/mmdebstrap') ? undefined : 'apt-get install mmdebstrap')
  if (missing) {
    console.error(`pull is left out: ${missing}`)
    return []
  }
  await using registry = await startRegistry()
  const layers = debianLayers()
  const size = layers.reduce((sum, { bytes }) => sum + bytes.length, 0)
  await publish(registry, 'debian', '1', layers, 'docker')
  return [...(await time(scene, registry, size)), await memory(scene, registry)]
}

async function time(scene: Scene, registry: Registry, size: number): Promise<Row[]> {
  await using mayfly = openMayfly(scene, `${registry.host}/debian:1`)
  await using others = registries()
  const contenders: Contender[] = [mayfly]
  for (const rival of scene.rivals) {
    const { pull: pullIt, removeImage, enterNetwork } = rival
    if (!pullIt || !removeImage || !enterNetwork) continue
    const near = others.add(await startRegistry({ enter: enterNetwork, storage: registry.storage }))
    const reference = `${near.host}/debian:1`
    contenders.push({
      name: `${rival.name} pull`,
      round: async () => {
        const ms = await timed(() => pullIt.call(rival, reference))
        await removeImage.call(rival, reference)
        return ms
      },
    })
  }
  if (existsSync('/usr/bin/skopeo')) contenders.push(skopeo(scene, `${registry.host}/debian:1`))
  const samples = await alternate(contenders, { rounds: scene.quick ? 3 : 10, warmUp: 1, restMs: 500 })
  const ours = samples.get('mayfly')!
  scene.record('pull: mayfly', ours)
  const what = `pull and unpack of a ${(size / 1e6).toFixed(0)} MB (compressed) Debian image of 3 layers`
  return contenders.slice(1).map(({ name }, index) => {
    const theirs = samples.get(name)!
    scene.record(`pull: ${name}`, theirs)
    const faster = median(theirs) / median(ours)
    return {
      what: index === 0 ? `${what}, beside \`${name}\`` : `the same, beside \`${name}\``,
      measured: `${duration(median(ours))}, ${name.split(' ')[0]} ${milliseconds(theirs)}`,
      goal: 'faster',
      ratio: `${times(faster)} faster`,
      hit: faster > 1,
    }
  })
}

/** Those that the rivals see; disposing of it stops them. (Node 20 has no AsyncDisposableStack.) */
function registries() {
  const all: Registry[] = []
  return {
    add(registry: Registry): Registry {
      all.push(registry)
      return registry
    },
    async [Symbol.asyncDispose]() {
      for (const registry of all) await registry[Symbol.asyncDispose]()
    },
  }
}

/** Each round pulls into a store that is empty. */
function openMayfly(scene: Scene, reference: string): Contender & AsyncDisposable {
  let rounds = 0
  return {
    name: 'mayfly',
    round: async () => {
      const place = await openPlace(scene, `pull-${rounds++}`)
      try {
        return await timed(() => pullImage(place, reference))
      } finally {
        await place.close()
      }
    },
    [Symbol.asyncDispose]: async () => {},
  }
}

async function openPlace({ world }: Scene, name: string) {
  const home = join(world.directory, name)
  await new Store(home).prepare()
  const session = await Session.open({ home, program: wardenProgram(), network: false })
  return {
    session,
    store: new Store(home, session),
    close: async () => {
      await session.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
}

function skopeo({ world }: Scene, reference: string): Contender {
  const target = join(world.directory, 'skopeo')
  return {
    name: 'skopeo copy docker://… dir:',
    round: async () => {
      const words = [
        '--insecure-policy',
        'copy',
        '--quiet',
        '--src-tls-verify=false',
        `docker://${reference}`,
        `dir:${target}`,
      ]
      const ms = await timed(() => execute('skopeo', words))
      rmSync(target, { recursive: true })
      return ms
    },
  }
}

/** Memory of a process that pulls a gibibyte that does not compress, in several layers at once. */
async function memory(scene: Scene, registry: Registry): Promise<Row> {
  const layers = Array.from({ length: LARGE_LAYERS }, () => {
    const directory = join(scene.world.directory, 'large')
    mkdirSync(directory)
    writeFileSync(join(directory, 'data'), randomBytes(LARGE_LAYER_BYTES))
    const tar = execFileSync('tar', ['-C', directory, '-cf', '-', '.'], { maxBuffer: LARGE_LAYER_BYTES + (1 << 20) })
    rmSync(directory, { recursive: true })
    return { diffId: digestOfBytes(tar), bytes: gzipSync(tar, { level: 1 }) }
  })
  await publish(registry, 'large', '1', layers, 'docker')
  layers.length = 0
  // In a process of its own: this one has grown already.
  const script = join(packageRoot(), 'node_modules', '.cache', `mayfly-pull-memory-${process.pid}.mjs`)
  const how = {
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    external: ['undici'],
  } satisfies BuildOptions
  const home = join(scene.world.directory, 'pull-large')
  try {
    await build({ ...how, entryPoints: [join(packageRoot(), 'test', 'bench', 'pull-memory.ts')], outfile: script })
    let growth = 0
    const ms = await timed(async () => {
      const { stdout } = await execute(process.execPath, [script, home, `${registry.host}/large:1`])
      growth = Number(stdout)
    })
    scene.record('pull of 1 GiB: growth of node’s memory, bytes', [growth])
    return {
      what: `memory of node while pulling 1 GiB in ${LARGE_LAYERS} layers: growth of its resident set`,
      measured: `${(growth / (1 << 20)).toFixed(0)} MiB`,
      goal: '≤ 100 MiB',
      ratio: `in ${duration(ms)}`,
      hit: growth <= MEMORY_GOAL,
    }
  } finally {
    rmSync(script, { force: true })
    rmSync(home, { recursive: true, force: true })
  }
}

/**
 * A Debian with Python in three layers, as an image has that was built in three steps. Made once on this machine: it
 * takes a minute and the distribution's mirror.
 */
function debianLayers(): PublishedLayer[] {
  const cache = join(tmpdir(), 'mayfly-bench-debian-12')
  if (!existsSync(cache)) {
    const making = `${cache}.${process.pid}`
    mkdirSync(making)
    const tree = join(making, 'tree.tar')
    console.error('pull: making a Debian image with mmdebstrap, once')
    const words = ['--quiet', '--variant=minbase', '--include=python3,ca-certificates', 'bookworm', tree]
    execFileSync('mmdebstrap', words, { stdio: ['ignore', 'ignore', 'inherit'] })
    const parts = [
      ['./usr/lib'],
      ['./usr/share', './var'],
      ['--exclude=./usr/lib', '--exclude=./usr/share', '--exclude=./var', '--exclude=./dev/*', '.'],
    ]
    const directory = join(making, 'tree')
    mkdirSync(directory)
    execFileSync('tar', ['-C', directory, '-xpf', tree])
    for (const [index, part] of parts.entries()) {
      execFileSync('tar', ['-C', directory, '--sort=name', '-cf', join(making, `${index}.tar`), ...part])
    }
    rmSync(directory, { recursive: true })
    rmSync(tree)
    renameSync(making, cache)
  }
  return [0, 1, 2].map((index) => {
    const tar = readFileSync(join(cache, `${index}.tar`))
    return { diffId: digestOfBytes(tar), bytes: gzipSync(tar) }
  })
}
