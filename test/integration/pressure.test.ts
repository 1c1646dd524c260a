/** One container at its limits, and what its neighbours notice of it. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Container, type ContainerOptions, Engine, type ResourceLimits } from '../../src/index.js'
import { makeWorld, obstacle, type World } from '../engine/support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

const MIB = 1024 * 1024

describe.skipIf(why)('a container at its limits', { timeout: 120_000 }, () => {
  let world: World
  let engine: Engine

  beforeAll(async () => {
    world = makeWorld()
    engine = await Engine.open({ home: world.home })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  const start = (more: Partial<ContainerOptions> = {}) =>
    engine.start({ rootfs: { directory: world.rootfs }, command: ['sleep', '1000'], ...more })
  const hog = (script: string, limits: ResourceLimits) => start({ command: ['sh', '-c', script], limits })
  /** Milliseconds that a neighbour takes for some work of its own: of the processor, of memory, of processes and of the disk. */
  const work = async (neighbour: Container) => {
    const script =
      'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; for i in $(seq 20); do true & done; wait; dd if=/dev/zero of=/tmp/f bs=1048576 count=8 2>/dev/null'
    const begin = performance.now()
    const { exitCode, stderr } = await neighbour.exec(['sh', '-c', script])
    expect([exitCode, stderr]).toEqual([0, ''])
    return performance.now() - begin
  }
  const least = async (work: () => Promise<number>) => {
    const times: number[] = []
    for (let round = 0; round < 5; round++) times.push(await work())
    return Math.min(...times)
  }

  test('uses no more of the processor than its share', async () => {
    await using container = await hog('for i in 1 2 3 4; do while :; do :; done & done; wait', { cpus: 0.2 })
    const before = await container.stats()
    const begin = performance.now()
    await new Promise((resolve) => setTimeout(resolve, 2000))
    const after = await container.stats()
    const used = (after.cpu.usageNs! - before.cpu.usageNs!) / 1e6 / (performance.now() - begin)
    expect(used).toBeLessThan(0.3)
  })

  test.each([
    ['of the processor', 'for i in 1 2 3 4; do while :; do :; done & done; wait', { cpus: 0.2 }],
    ['of memory', 'while :; do tail /dev/zero; done 2>/dev/null', { memoryBytes: 16 * MIB, cpus: 0.2 }],
    ['of processes', 'while :; do sleep 1 & done 2>/dev/null', { pids: 20, cpus: 0.2 }],
    ['of its disk', 'while :; do dd if=/dev/zero of=/f bs=65536; done 2>/dev/null', { diskBytes: 4 * MIB, cpus: 0.2 }],
  ])('%s leaves its neighbours what is theirs', async (_what, script, limits) => {
    await using neighbour = await start()
    const alone = await least(() => work(neighbour))
    await using _hog = await hog(script, limits)
    const beside = await least(() => work(neighbour))
    // A tenth of two processors is its share. The rest of the allowance is for whoever else is on this machine.
    expect(beside).toBeLessThan(alone * 2.5 + 50)
    expect((await neighbour.exec(['true'])).exitCode).toBe(0)
  })
})
