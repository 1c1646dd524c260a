/**
 * A few rounds of `npm run chaos`, always the same ones. MAYFLY_CHAOS_MINUTES=10 plays for longer (.ci/run: two minutes), MAYFLY_CHAOS_SEED others.
 */

import { describe, expect, test } from 'vitest'
import { chaos, describeRound } from './chaos.ts'
import { Dice } from './dice.ts'
import { obstacleToChaos } from './ground.ts'
import { planTorments } from './torments.ts'

const minutes = Number(process.env.MAYFLY_CHAOS_MINUTES ?? 0.4)
const seed = process.env.MAYFLY_CHAOS_SEED ?? 'mayfly'
const reason = obstacleToChaos()
if (reason) console.warn(`skipped: chaos: ${reason}`)

describe('chaos', () => {
  test('is the same for the same seed', () => {
    const plan = (name: string) => planTorments(new Dice(name), 3, 5_000, true)
    expect(plan('one')).toEqual(plan('one'))
    expect(plan('one')).not.toEqual(plan('another'))
  })

  test.skipIf(reason)(
    'leaves nothing behind and breaks nothing that stays',
    async () => {
      const rounds = await chaos({ minutes, seed, directory: new URL('.', import.meta.url).pathname })
      expect(rounds.length).toBeGreaterThan(0)
      const bad = rounds.flatMap((round, index) => (round.defects.length > 0 ? describeRound(index + 1, round) : []))
      expect(bad, `npm run chaos -- --seed ${seed}`).toEqual([])
    },
    minutes * 60_000 + 240_000,
  )
})
