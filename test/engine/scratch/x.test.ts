import { test } from 'vitest'
import { Engine } from '../../../src/index.js'
import { makeWorld } from '../support/world.js'
const pct = (a: number[], p: number) => a.sort((x, y) => x - y)[Math.floor(a.length * p)]!.toFixed(2)
test('x', async () => {
  const world = makeWorld()
  const t = performance.now()
  const engine = await Engine.open({ home: world.home })
  console.log('open', (performance.now() - t).toFixed(1))
  const o = (command: string[], more = {}) => ({ rootfs: { directory: world.rootfs }, command, ...more })
  const measure = async (name: string, n: number, f: () => Promise<unknown>) => {
    const a: number[] = []
    const cpu = process.cpuUsage()
    const t0 = performance.now()
    for (let i = 0; i < n; i++) { const t = performance.now(); await f(); a.push(performance.now() - t) }
    const total = performance.now() - t0
    const { user, system } = process.cpuUsage(cpu)
    console.log(name, 'ms min', pct(a, 0), 'p50', pct(a, 0.5), 'p95', pct(a, 0.95), 'rate', (n / total * 1000).toFixed(0), 'node cpu us per', ((user + system) / n).toFixed(0))
  }
  await measure('run true (cold)', 20, () => engine.run(o(['true'])))
  for (let i = 0; i < 3; i++) await measure('run true', 300, () => engine.run(o(['true'])))
  await measure('run echo', 300, () => engine.run(o(['echo', 'hi'])))
  await measure('run true no net', 300, () => engine.run(o(['true'], { network: 'none' })))
  await measure('run true mem', 300, () => engine.run(o(['true'], { scratch: 'memory' })))
  const c = await engine.start(o(['sleep', '1000']))
  for (let i = 0; i < 3; i++) await measure('exec true', 300, () => c.exec(['true']))
  await measure('stats', 300, () => c.stats())
  await measure('start+stop', 100, async () => { const c = await engine.start(o(['sleep', '1000'])); await c.stop({ timeoutMs: 0 }) })
  const t1 = performance.now()
  const all = await Promise.all(Array.from({ length: 100 }, () => engine.start(o(['sleep', '1000']))))
  console.log('100 started', (performance.now() - t1).toFixed(0))
  await measure('run true with 100 others', 100, () => engine.run(o(['true'])))
  await measure('exec true with 100 others', 100, () => c.exec(['true']))
  const t2 = performance.now()
  await Promise.all(all.map((c) => c.remove({ force: true })))
  console.log('100 removed', (performance.now() - t2).toFixed(0))
  const t3 = performance.now()
  await engine.close()
  console.log('closed', (performance.now() - t3).toFixed(0))
  world.remove()
}, 60000)
