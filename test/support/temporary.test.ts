/** What a killed run of tests has left goes with the next one. */

import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../engine/support/world.js'
import { bundleScenario, type Scenario, startScenario } from './scenario.js'
import { isAbandoned, temporaryDirectory } from './temporary.js'
import type { Made } from './temporary.scenario.js'

const why = obstacle() || (process.getuid?.() === 0 ? undefined : 'a territory needs root')
if (why) console.warn(`skipped: control groups of killed tests: ${why}`)

const directory = temporaryDirectory('killed')
const program = join(directory, 'scenario.mjs')
// Nobody else's runs: any of them would take away what is left here as well.
const TMPDIR = join(directory, 'tmp')

beforeAll(async () => {
  mkdirSync(TMPDIR)
  await bundleScenario(fileURLToPath(new URL('temporary.scenario.ts', import.meta.url)), program)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function begin(kind: 'territory' | 'directory'): Promise<{ scenario: Scenario; made: Made }> {
  const scenario = startScenario([process.execPath, program, kind], { TMPDIR })
  return { scenario, made: await scenario.fact<Made>() }
}

async function kill({ scenario }: { scenario: Scenario }): Promise<void> {
  scenario.process.kill('SIGKILL')
  await scenario.ended
}

async function end({ scenario }: { scenario: Scenario }): Promise<void> {
  scenario.process.stdin!.end()
  expect(await scenario.ended).toMatchObject({ code: 0, stderr: '' })
}

test('directories of a killed run go with the next, those of a living one stay', async () => {
  const [living, killed] = [await begin('directory'), await begin('directory')]
  await kill(killed)
  expect(killed.made.directories.every((path) => existsSync(path))).toBe(true)

  const next = await begin('directory')
  expect(killed.made.directories.filter((path) => existsSync(path))).toEqual([])
  expect([...living.made.directories, ...next.made.directories].every((path) => existsSync(path))).toBe(true)
  await Promise.all([kill(living), kill(next)])
})

test('what has no owner in its name, or one of another PID namespace, is nobody’s to remove', () => {
  const own = directory.slice(directory.lastIndexOf('/') + 1)
  const gone = own.replace(/^(mf-\w+\.)\w+\.\w+/, '$1zzzzz.zz')
  expect([own, gone, gone.replace('mf-', 'mf-zz'), 'mf-AbCdEf', 'mf-packed-AbCdEf', 'other'].map(isAbandoned)).toEqual([
    false,
    true,
    false,
    false,
    false,
    false,
  ])
})

test('a process that got the number of one that is gone is not its owner', () => {
  const own = directory.slice(directory.lastIndexOf('/') + 1)
  expect(isAbandoned(own.replace(/^(mf-\w+\.\w+\.)\w+/, '$11'))).toBe(true)
})

/** What a process was started with; '' when it is dead, whether or not somebody has asked how it ended. */
function wordsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

describe.skipIf(why)('control groups of a killed run', () => {
  test('go with the next territory, with the processes in them', async () => {
    const [living, killed] = [await begin('territory'), await begin('territory')]
    expect(wordsOf(killed.made.member!)).toContain('sleep')
    await kill(killed)

    const next = await begin('territory')
    const { directories, groups, member } = killed.made
    expect([...directories, ...groups].filter((path) => existsSync(path))).toEqual([])
    expect(wordsOf(member!)).toBe('')
    expect(living.made.groups.length).toBeGreaterThan(0)
    for (const { made } of [living, next]) {
      expect([...made.directories, ...made.groups].filter((path) => !existsSync(path))).toEqual([])
    }
    await Promise.all([end(living), end(next)])
    const territories = [living, next].flatMap(({ made }) => [made.directories[1]!, ...made.groups])
    expect(territories.filter((path) => existsSync(path))).toEqual([])
  })
})
