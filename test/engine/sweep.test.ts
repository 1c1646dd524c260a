/** What an engine that opens does with the sessions beside its own. */

import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Engine } from '../../src/index.js'
import { makeWorld, obstacle, type World } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: there is no warden here: ${why}`)

/** Takes the lock again and again, as one that makes its session does once; tells how often somebody else had it. */
const MAKER = `use Fcntl ':flock'; $| = 1; $SIG{TERM} = sub { $done = 1 }; open(my $file, '+<', $ARGV[0]) or die $!; print "begun\\n";
until ($done) { flock($file, LOCK_EX | LOCK_NB) or $refused++; flock($file, LOCK_UN) } print $refused + 0, "\\n"`

const OPENINGS = 20

describe.skipIf(why)('sessions of others', () => {
  let world: World
  beforeEach(() => {
    world = makeWorld()
  })
  afterEach(() => world.remove())

  function makeSession(name: string, ageSeconds: number): string {
    const directory = join(world.home, 'sessions', name)
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const lock = join(directory, 'lock')
    writeFileSync(lock, '')
    const time = Date.now() / 1000 - ageSeconds
    utimesSync(directory, time, time)
    return lock
  }

  const open = async () => {
    await using _engine = await Engine.open({ home: world.home })
  }

  test('one that is being made finds its lock free whoever opens beside it', async () => {
    const maker = spawn('perl', ['-e', MAKER, makeSession('.0123456789ab', 0)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let told = ''
    const ended = new Promise((resolve) => maker.once('close', resolve))
    await new Promise<void>((resolve) =>
      maker.stdout.on('data', (piece) => {
        told += piece
        resolve()
      }),
    )
    try {
      for (let count = 0; count < OPENINGS; count++) await open()
    } finally {
      maker.kill('SIGTERM')
      await ended
    }
    expect(told).toBe('begun\n0\n')
    expect(readdirSync(join(world.home, 'sessions'))).toContain('.0123456789ab')
  })

  test('those whose makers died before they were made are removed, after a minute', async () => {
    for (const [name, age] of [
      ['.00000000000a', 10],
      ['.00000000000b', 100],
      ['00000000000c', 0],
    ] as const)
      makeSession(name, age)
    await open()
    await expect.poll(() => readdirSync(join(world.home, 'sessions'))).toEqual(['.00000000000a'])
  })
})
