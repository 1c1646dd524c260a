/** A little of `npm run load` and `npm run soak`: many containers in one process and in several, with node standing still in the middle of it. */

import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { growth, LoadGround, linesExpected } from '../chaos/load.ts'
import { missingBusybox } from '../support/rootfs.ts'

const reason = process.getuid?.() !== 0 ? 'needs root' : missingBusybox()
if (reason) console.warn(`skipped: load: ${reason}`)

const program = fileURLToPath(new URL('../chaos/load-process.ts', import.meta.url))
const blockMs = 1_000

describe.skipIf(reason)('under load', { timeout: 120_000 }, () => {
  let ground: LoadGround

  beforeAll(async () => {
    ground = await LoadGround.open(program)
  })

  afterAll(() => ground?.[Symbol.asyncDispose]())

  test.each([
    ['one after another', 100],
    ['at once', 60],
  ] as const)('containers %s are started, used and removed, and go on while node stands still', async (task, count) => {
    const { linesWhileBlocked } = await ground.run({ task, count, blockMs })
    expect(linesWhileBlocked).toBeGreaterThan(linesExpected(blockMs))
    await ground.nothingLeft()
  })

  test('four processes with their containers do not disturb each other', async () => {
    const settings = { task: 'at once', count: 8, blockMs } as const
    const all = await Promise.all([1, 2, 3, 4].map(() => ground.run(settings)))
    for (const { linesWhileBlocked } of all) expect(linesWhileBlocked).toBeGreaterThan(linesExpected(blockMs))
    await ground.nothingLeft()
  })

  test('memory, descriptors, mounts and disk stay the same over sixty cycles of everything', async () => {
    const { samples } = await ground.run({ task: 'soak', count: 60, blockMs })
    expect(samples).toHaveLength(20)
    expect(growth(samples)).toEqual([])
    await ground.nothingLeft()
  })

  test('growth is found where there is some', () => {
    const sample = (cycles: number, wardenDescriptors: number) => ({
      cycles,
      nodeBytes: 1e8,
      nodeHeapBytes: 1e7,
      wardenBytes: 1e6,
      launcherBytes: 1e5,
      nodeDescriptors: 20,
      wardenDescriptors,
      launcherDescriptors: 10,
      wardenMounts: 50,
      diskBytes: 1e7,
    })
    const samples = (step: number) => Array.from({ length: 20 }, (_, i) => sample(i, 100 + step * i))
    expect(growth(samples(0))).toEqual([])
    expect(growth(samples(3))).toEqual([expect.stringMatching(/^wardenDescriptors grew from 118 to 136$/)])
  })
})
