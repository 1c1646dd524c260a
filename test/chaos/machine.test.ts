/** What the checker of `npm run chaos` must find: one thing of each kind, put there by hand. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openTerritory, type Territory } from '../support/territory.ts'
import { descriptorsOf, stayOpen } from './descriptors.ts'
import { obstacleToChaos, type Site } from './ground.ts'
import { differences, lookAtMachine, type Machine } from './machine.ts'

const why = obstacleToChaos()

/** Starts a program that says something when it is ready and stays. */
async function stays(words: readonly string[]): Promise<() => Promise<void>> {
  const child = spawn(words[0]!, words.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return async () => {
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
}

describe.skipIf(why)(`the checker (${why || 'all there'})`, () => {
  let territory: Territory
  let holder: ChildProcess
  let site: Site
  let before: Machine
  const inside = (...words: string[]) =>
    void execFileSync('nsenter', [
      `--net=/proc/${territory.keeper}/ns/net`,
      `--mount=/proc/${holder.pid}/ns/mnt`,
      ...words,
    ])
  const path = (name: string) => join(territory.directory, name)

  beforeAll(async () => {
    territory = await openTerritory()
    for (const name of ['home/layers/a/tree', 'home/refs', 'home/sessions', 'mnt'])
      mkdirSync(path(name), { recursive: true })
    for (const name of ['home/layers/a/tree/file', 'home/refs/file', 'home/lost']) writeFileSync(path(name), 'before')
    write('before')
    holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', 'echo; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(holder.stdout!, 'data')
    site = {
      territory,
      home: () => path('home'),
      holder: () => holder.pid!,
      directories: () => [
        { path: path('home'), name: 'store' },
        { path: path('mnt'), name: '/tmp', except: ['/tmp/known'] },
      ],
    }
    before = lookAtMachine(site)
  })
  afterAll(() => {
    holder?.kill('SIGKILL')
    territory?.[Symbol.dispose]()
  })

  type Undo = void | (() => void | Promise<void>)
  const write = (content: string) => {
    writeFileSync(path('home/layers/a/tree/file'), content)
    utimesSync(path('home/layers/a/tree/file'), 1_000, 1_000)
  }
  const plants: Readonly<Record<string, readonly [kind: string, plant: () => Undo | Promise<Undo>]>> = {
    'a process': ['process', () => stays([...territory.enter, 'sh', '-c', 'echo; exec sleep 1000'])],
    'a mount of theirs': [
      'mount',
      () => {
        inside('mount', '-t', 'tmpfs', 'tmpfs', '/mnt')
        return () => inside('umount', '/mnt')
      },
    ],
    'a mount in a namespace of its own': [
      'mount',
      () => stays(['unshare', '--mount', 'sh', '-c', `mount -t tmpfs tmpfs '${path('mnt')}'; echo; exec sleep 1000`]),
    ],
    'a link': [
      'link',
      () => {
        inside('ip', 'link', 'add', 'planted', 'type', 'bridge')
        return () => inside('ip', 'link', 'delete', 'planted')
      },
    ],
    'a route': [
      'every route',
      () => {
        inside('ip', 'route', 'add', '198.51.100.0/24', 'dev', 'lo', 'table', '99')
        return () => inside('ip', 'route', 'delete', '198.51.100.0/24', 'table', '99')
      },
    ],
    'a rule of routing': [
      'rule',
      () => {
        inside('ip', 'rule', 'add', 'from', '198.51.100.1', 'table', '99')
        return () => inside('ip', 'rule', 'delete', 'from', '198.51.100.1', 'table', '99')
      },
    ],
    'a table of nftables': [
      'firewall',
      () => {
        inside('nft', 'add', 'table', 'inet', 'planted')
        return () => inside('nft', 'delete', 'table', 'inet', 'planted')
      },
    ],
    'a sysctl': [
      'sysctl',
      () => {
        inside('sysctl', '-qw', 'net.ipv4.conf.lo.route_localnet=1')
        return () => inside('sysctl', '-qw', 'net.ipv4.conf.lo.route_localnet=0')
      },
    ],
    'a control group': [
      'group',
      () => {
        const group = join(territory.groups[0]!, 'planted')
        mkdirSync(group)
        return () => rmdirSync(group)
      },
    ],
    'a setting of a control group': [
      'setting of a group',
      () => {
        const file = territory.groups
          .map((group) => join(group, 'pids.max'))
          .find((one) => statSync(one, { throwIfNoEntry: false }))!
        const was = readFileSync(file, 'utf8')
        writeFileSync(file, '12345')
        return () => writeFileSync(file, was)
      },
    ],
    'a socket that listens': ['open socket', () => listens('listen(0, "127.0.0.1"')],
    'a unix socket with a name': ['open socket', () => listens('listen("\\0planted"')],
    'a session': [
      'session',
      () => {
        mkdirSync(path('home/sessions/planted'))
        return () => rmdirSync(path('home/sessions/planted'))
      },
    ],
    'a file in the store': [
      'file',
      () => {
        writeFileSync(path('home/refs/planted'), '')
        return () => rmSync(path('home/refs/planted'))
      },
    ],
    'a link in /tmp': [
      'file',
      () => {
        symlinkSync('nowhere', path('mnt/planted'))
        return () => rmSync(path('mnt/planted'))
      },
    ],
    'a file that has other content': [
      'file',
      () => {
        write('behind')
        return () => write('before')
      },
    ],
    'a file of a layer that was touched': [
      'file',
      () => {
        utimesSync(path('home/layers/a/tree/file'), 1_001, 1_001)
        return () => write('before')
      },
    ],
    'a file that has another mode': [
      'file',
      () => {
        const { mode } = statSync(path('home/refs/file'))
        chmodSync(path('home/refs/file'), 0o4755)
        return () => chmodSync(path('home/refs/file'), mode)
      },
    ],
    'a file that is lost': [
      'file',
      () => {
        rmSync(path('home/lost'))
        return () => writeFileSync(path('home/lost'), 'before')
      },
    ],
  }

  function listens(how: string): Promise<() => Promise<void>> {
    const program = `require("net").createServer().${how}, () => console.log())`
    return stays([...territory.enter, process.execPath, '-e', program])
  }

  test.each(Object.entries(plants))('finds %s', async (_name, [kind, plant]) => {
    const undo = await plant()
    const found = await differences(site, before, [], 0)
    await undo?.()
    expect(found.filter((line) => line.includes(`: ${kind}: `))).not.toEqual([])
    // And what was found was that, not a change of its own.
    expect(await differences(site, before, [])).toEqual([])
  })

  test('leaves out what it is told to leave out', async () => {
    mkdirSync(path('home/sessions/planted'))
    writeFileSync(path('mnt/known'), '')
    expect(await differences(site, before, ['session', 'file'], 0)).toEqual([])
    rmdirSync(path('home/sessions/planted'))
    expect(await differences(site, before, [], 0)).toEqual([])
    rmSync(path('mnt/known'))
  })
})

describe('descriptors that stay open', () => {
  test.each([
    ['a file', 'require("fs").openSync("/etc/passwd")'],
    ['a socket', 'require("net").createServer().listen(0)'],
    ['a watch', 'require("fs").watch("/etc")'],
  ])('are found: %s', async (_name, open) => {
    const program = `console.log(); process.stdin.once("data", () => { ${open}; setTimeout(() => console.log(), 100) })`
    const child = spawn(process.execPath, ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
    try {
      await once(child.stdout, 'data')
      const before = descriptorsOf(child.pid!)
      child.stdin.write('on')
      await once(child.stdout, 'data')
      expect(await stayOpen(child.pid!, before, 500)).not.toEqual([])
    } finally {
      child.kill('SIGKILL')
    }
  })
})
