/** Networks: made, joined, asked for names, and carrying traffic from container to container; volumes. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { alternate, type Contender, median, timed } from '../measure.ts'
import type { RivalNetworks } from '../rivals/rival.ts'
import { duration, milliseconds, type Row, times } from '../table.ts'
import { container, type Measurement, runTrue, type Scene } from './scene.ts'

const PORT = 8080
const LOOKUP_MS = 0.2
const VOLUME_MS = 0.2

/** As the rivals', with the engine of the scene. */
async function ourNetworks(scene: Scene): Promise<RivalNetworks> {
  const { engine } = scene
  const [one, two] = [await engine.networks.create(), await engine.networks.create()]
  const networks = [one.id]
  const server = await engine.start({
    ...container(scene, '/bin/peer', 'serve', String(PORT)),
    name: 'bench-server',
    networks,
  })
  await server.waitForPort(PORT)
  const client = await engine.start({ ...container(scene, '/bin/peer', 'wait'), networks })
  const peer = async (...words: string[]) => {
    const { stdout, stderr, exitCode } = await client.exec(['/bin/peer', ...words])
    if (exitCode !== 0) throw new Error(stderr)
    return Number(stdout)
  }
  return {
    makeAndRemove: {
      name: 'mayfly',
      round: () => timed(async () => (await engine.networks.create()).remove()),
    },
    connect: {
      name: 'mayfly',
      round: async () => {
        const ms = await timed(() => engine.networks.connect(client.id, two.id))
        await engine.networks.disconnect(client.id, two.id)
        return ms
      },
    },
    rate: (mode, ms) =>
      mode === 'lookup'
        ? peer('lookup', one.gateway, 'bench-server', String(ms))
        : peer(mode, server.address, String(PORT), String(ms)),
    [Symbol.asyncDispose]: async () => {
      await Promise.all([server, client].map((one) => one.remove({ force: true })))
      await Promise.all([one, two].map((network) => network.remove()))
    },
  }
}

export const networks: Measurement = async (scene) => {
  await using ours = await ourNetworks(scene)
  const rivals: { readonly name: string; readonly networks: RivalNetworks }[] = []
  // Node 20 has no AsyncDisposableStack.
  await using _rivals = {
    [Symbol.asyncDispose]: async () => {
      for (const rival of rivals) await rival.networks[Symbol.asyncDispose]()
    },
  }
  for (const { name, networks: open } of scene.rivals) if (open) rivals.push({ name, networks: await open() })
  const theirs = (key: 'makeAndRemove' | 'connect') => rivals.map(({ networks }) => networks[key])
  return [
    ...(await faster(scene, 'a network made and removed', 20, ours.makeAndRemove, theirs('makeAndRemove'))),
    ...(await faster(scene, 'a running container connected to a network', 10, ours.connect, theirs('connect'))),
    await lookUp(scene, ours, rivals),
    ...(await traffic(scene, 'pull', 'bytes from container to container', gigabytes, ours, rivals)),
    ...(await traffic(scene, 'echo', 'round trips from container to container', thousands, ours, rivals)),
    await volume(scene),
  ]
}

async function faster(scene: Scene, what: string, goal: number, ours: Contender, theirs: readonly Contender[]) {
  const how = { rounds: scene.quick ? 5 : 25, warmUp: 2, restMs: 100 }
  const samples = await alternate([ours, ...theirs], how)
  for (const [name, list] of samples) scene.record(`${what}: ${name}`, list)
  const own = samples.get('mayfly')!
  if (theirs.length === 0) return [{ what, measured: milliseconds(own), goal: `≥ ${goal} × Docker’s speed`, ratio: '' }]
  return theirs.map(({ name }): Row => {
    const list = samples.get(name)!
    const ratio = median(list) / median(own)
    const measured = `${milliseconds(own)}, ${name} ${milliseconds(list)}`
    return { what, measured, goal: `≥ ${goal} ×`, ratio: times(ratio), hit: ratio >= goal }
  })
}

type Named = readonly { readonly name: string; readonly networks: RivalNetworks }[]

async function rates(scene: Scene, mode: 'pull' | 'echo' | 'lookup', what: string, ours: RivalNetworks, rivals: Named) {
  const all = [{ name: 'mayfly', networks: ours }, ...rivals]
  const samples = new Map(all.map(({ name }) => [name, [] as number[]]))
  const [rounds, ms] = scene.quick ? [3, 200] : [9, 400]
  for (let round = -1; round < rounds; round++) {
    for (const { name, networks: one } of all) {
      const rate = await one.rate(mode, ms)
      if (round >= 0) samples.get(name)!.push(rate)
    }
  }
  for (const [name, list] of samples) scene.record(`${what}, a second: ${name}`, list)
  return samples
}

async function lookUp(scene: Scene, ours: RivalNetworks, rivals: Named): Promise<Row> {
  const what = 'look-up of a container’s name'
  const samples = await rates(scene, 'lookup', what, ours, rivals)
  const each = [...samples].map(([name, list]) => [name, 1000 / median(list)] as const)
  const [[, own], ...others] = each as [(typeof each)[number], ...typeof each]
  const beside = others.map(([name, ms]) => `, ${name} ${duration(ms)}`).join('')
  return {
    what,
    measured: duration(own) + beside,
    goal: `≤ ${LOOKUP_MS} ms`,
    ratio: others[0] ? times(others[0][1] / own) : '',
    hit: own <= LOOKUP_MS,
  }
}

async function traffic(
  scene: Scene,
  mode: 'pull' | 'echo',
  what: string,
  unit: (n: number) => string,
  ours: RivalNetworks,
  rivals: Named,
): Promise<Row[]> {
  const samples = await rates(scene, mode, what, ours, rivals)
  const own = median(samples.get('mayfly')!)
  if (rivals.length === 0) return [{ what, measured: unit(own), goal: '≥ 1 × Docker’s', ratio: '' }]
  return rivals.map(({ name }): Row => {
    const theirs = median(samples.get(name)!)
    const ratio = own / theirs
    const measured = `${unit(own)}, ${name} ${unit(theirs)}`
    return { what, measured, goal: '≥ 1 ×', ratio: times(ratio), hit: ratio >= 1 }
  })
}

/** What a named volume with something in it, mounted over a directory of the image, adds to a run. */
async function volume(scene: Scene): Promise<Row> {
  const { engine } = scene
  const made = await engine.volumes.create()
  writeFileSync(join(made.path, 'file'), 'data')
  const mounts = [{ type: 'volume', source: made.name, target: '/tmp' }] as const
  const options = { ...container(scene, '/bin/true'), mounts }
  const plain = runTrue(scene)
  const mounted: Contender = { name: 'with a volume', round: () => timed(() => engine.run(options)) }
  const how = { rounds: scene.quick ? 30 : 200, warmUp: 5, restMs: 5 }
  const samples = await alternate([plain, mounted], how)
  await made.remove()
  for (const [name, list] of samples) scene.record(`volume: ${name}`, list)
  const added = median(samples.get('with a volume')!) - median(samples.get('mayfly')!)
  return {
    what: 'what a named volume adds to a run',
    measured: `${added.toFixed(2)} ms`,
    goal: `≤ ${VOLUME_MS} ms`,
    ratio: '',
    hit: added <= VOLUME_MS,
  }
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB/s`
const thousands = (trips: number) => `${(trips / 1e3).toFixed(1)} k/s`
