/** What a newcomer types after the clone, where the images are there and no registry is in reach. */

import { execFile } from 'node:child_process'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../engine/support/world.js'
import {
  copyServiceImages,
  missingServiceImages,
  SERVICE_IMAGE_TIMEOUT_MS,
  type Service,
} from '../support/service-images.js'
import { temporaryDirectory } from '../support/temporary.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const why = obstacle() || (await missingServiceImages())
if (why) console.warn(`skipped: npm run demo: ${why}`)

const IMAGES: Readonly<Record<string, Service>> = { 'postgres:17': 'postgres', 'redis:8': 'redis' }

describe.skipIf(why)('npm run demo', () => {
  // A store of its own: what other tests do at the same time in theirs would look like something left behind.
  let home: string

  beforeAll(async () => {
    home = temporaryDirectory('demo')
    await copyServiceImages(home, IMAGES)
  }, SERVICE_IMAGE_TIMEOUT_MS)
  afterAll(() => home && rmSync(home, { recursive: true, force: true }))

  test('passes its suite, and leaves nothing behind', { timeout: 180_000 }, async () => {
    const { VITEST, VITEST_POOL_ID, VITEST_WORKER_ID, NODE_ENV, TEST, FORCE_COLOR, ...env } = process.env
    const { stdout } = await promisify(execFile)(process.execPath, ['scripts/demo.mjs'], {
      cwd: root,
      env: { ...env, MAYFLY_HOME: home, NO_COLOR: '1' },
    })
    expect(stdout).toMatch(/^ {2}postgres:17 is here already\.$/m)
    expect(stdout).toMatch(/^\s*Tests +5 passed \(5\)$/m)
    expect(stdout).toMatch(/^ +[\d.]+ m?s {2}the second, the same$/m)
    expect(stdout).toMatch(/^ +[\d.]+ m?s {2}from kill -9 of the test process until its Redis was gone$/m)
    expect(stdout).toContain('Of the containers nothing: no process, no mount')
  })
})
