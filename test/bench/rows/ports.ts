/** Traffic from this host to a server in a container: through a published port, and to the container's own address. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { median } from '../measure.ts'
import type { Endpoint } from '../rivals/rival.ts'
import { type Row, times } from '../table.ts'
import { container, type Measurement, type Scene } from './scene.ts'

const execute = promisify(execFile)
const PORT = 8080

interface Path {
  readonly name: string
  readonly endpoint: Endpoint
}

export const ports: Measurement = async (scene) => {
  await using server = await scene.engine.start({
    ...container(scene, '/bin/peer', 'serve', String(PORT)),
    ports: [PORT],
  })
  await server.waitForPort(PORT)
  const enter: string[] = []
  const ways: [string, Path[]][] = [
    ['a published port', [{ name: 'mayfly', endpoint: { address: '127.0.0.1', port: server.port(PORT), enter } }]],
    ['the container’s own address', [{ name: 'mayfly', endpoint: { address: server.address, port: PORT, enter } }]],
  ]
  const isReachable = scene.engine.info.isHostReachable
  if (!isReachable) ways.pop()
  for (const rival of scene.rivals) {
    if (!rival.serve) continue
    const theirs = await rival.serve()
    ways[0]![1].push({ name: rival.name, endpoint: theirs.published })
    ways[1]?.[1].push({ name: rival.name, endpoint: theirs.own })
  }
  const rows: Row[] = []
  for (const [way, paths] of ways) {
    const goal = way === ways[0]![0] ? '≥ 1 ×' : ''
    rows.push(...(await compare(scene, `bytes through ${way}`, goal, 'pull', paths, gigabytes)))
    rows.push(...(await compare(scene, `round trips through ${way}`, goal, 'echo', paths, thousands)))
  }
  if (!isReachable) {
    const measured = 'not reachable from this host'
    rows.push({ what: 'bytes through the container’s own address', measured, goal: 'reachable', ratio: '', hit: false })
  }
  return rows
}

/** Measures the paths in turn; one line against each rival, or one without any. */
async function compare(
  scene: Scene,
  what: string,
  goal: string,
  mode: 'pull' | 'echo',
  paths: readonly Path[],
  unit: (n: number) => string,
) {
  const samples = new Map(paths.map(({ name }) => [name, [] as number[]]))
  const [rounds, ms] = scene.quick ? [3, 200] : [9, 400]
  for (let round = -1; round < rounds; round++) {
    for (const { name, endpoint } of paths) {
      const rate = await client(scene, mode, endpoint, ms)
      if (round >= 0) samples.get(name)!.push(rate)
    }
  }
  for (const [name, rates] of samples) scene.record(`${what}, a second: ${name}`, rates)
  const ours = median(samples.get('mayfly')!)
  const [, ...rivals] = paths
  if (rivals.length === 0) return [{ what, measured: unit(ours), goal: goal && `${goal} Docker’s`, ratio: '' }]
  return rivals.map(({ name }): Row => {
    const theirs = median(samples.get(name)!)
    const ratio = ours / theirs
    return {
      what,
      measured: `${unit(ours)}, ${name} ${unit(theirs)}`,
      goal,
      ratio: times(ratio),
      ...(goal ? { hit: ratio >= 1 } : {}),
    }
  })
}

async function client({ world }: Scene, mode: string, { address, port, enter }: Endpoint, ms: number): Promise<number> {
  const [program, ...words] = [...enter, world.peer, mode, address, String(port), String(ms)]
  const { stdout } = await execute(program!, words, { timeout: 20_000 })
  return Number(stdout)
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB/s`
const thousands = (trips: number) => `${(trips / 1e3).toFixed(1)} k/s`
