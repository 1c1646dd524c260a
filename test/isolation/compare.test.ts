/**
 * One program in a container of ours and in one of Debian's Docker 20.10, both with default options: ours never allows what Docker denies, and where it
 * differs SECURITY.md says why. What depends on the moment (counters, identifiers, devices that come and go) is not compared.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { Engine } from '../../src/index.ts'
import { type Dockerd, missingDocker, startDockerd } from '../support/dockerd.ts'
import { makeRootfs, missingBusybox } from '../support/rootfs.ts'

const noDocker =
  process.getuid?.() !== 0 || process.arch !== 'x64' ? 'needs root on x64' : (missingDocker() ?? missingBusybox())
if (noDocker) console.warn(`skipped: isolation compared with Docker: ${noDocker}`)

type Facts = ReadonlyMap<string, string>

/** Facts of the probe by kind and name. */
function read(output: string): (kind: string) => Facts {
  const kinds = new Map<string, Map<string, string>>()
  for (const line of output.split('\n')) {
    const [kind, name, value] = line.split('\t')
    if (value === undefined) continue
    if (!kinds.has(kind!)) kinds.set(kind!, new Map())
    kinds.get(kind!)!.set(name!, value)
  }
  return (kind) => kinds.get(kind) ?? new Map()
}

const isRefused = (result: string | undefined) => result === 'EPERM' || result === 'ENOSYS'

/**
 * Calls that ours allows and 20.10 refuses: the profile is that of moby in 2026, which has them in its base list. 20.10's, of 2021, refuses six of
 * them and does not know the others. x64 numbers.
 */
const NEWER_PROFILE: Readonly<Record<string, string>> = {
  303: 'name_to_handle_at',
  310: 'process_vm_readv',
  311: 'process_vm_writev',
  329: 'pkey_mprotect',
  330: 'pkey_alloc',
  331: 'pkey_free',
  451: 'cachestat',
  452: 'fchmodat2',
  453: 'map_shadow_stack',
  454: 'futex_wake',
  455: 'futex_wait',
  456: 'futex_requeue',
  457: 'statmount',
  458: 'listmount',
  462: 'mseal',
  463: 'setxattrat',
  464: 'getxattrat',
  465: 'listxattrat',
  466: 'removexattrat',
}

/** Calls that 20.10 allows and ours refuses, for the same reason. */
const STRICTER = /^(41|425|426|427|socket (38|40) \d+)$/

describe.skipIf(noDocker)('beside a container of Docker, one of ours', () => {
  let ours: ReturnType<typeof read>
  let theirs: ReturnType<typeof read>

  beforeAll(async () => {
    await using docker: Dockerd = await startDockerd()
    if (!docker.description.startsWith('20.10')) console.warn(`compared with ${docker.description}, not 20.10`)
    const directory = join(docker.directory, 'compare')
    const rootfs = join(directory, 'rootfs')
    mkdirSync(directory)
    makeRootfs(rootfs)
    execFileSync('gcc', ['-static', '-O1', '-Wall', '-Wextra', '-Werror', '-o', join(rootfs, 'bin/probe'), source])
    execFileSync('tar', ['-C', rootfs, '-cf', join(directory, 'base.tar'), '.'])
    await docker.docker('import', join(directory, 'base.tar'), 'base')
    theirs = read(await docker.docker('run', '--rm', 'base', 'probe'))
    await using engine = await Engine.open({ home: join(directory, 'home') })
    const { stdout, exitCode, isTruncated } = await engine.run({ rootfs: { directory: rootfs }, command: ['probe'] })
    expect({ exitCode, isTruncated }).toEqual({ exitCode: 0, isTruncated: false })
    ours = read(stdout)
  }, 60_000)

  test('has the same capabilities, ids, signals and privileges', () => {
    const names = 'CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Uid Gid Groups Umask SigBlk SigIgn ShdPnd'
    const status = (facts: typeof ours) => names.split(' ').map((name) => [name, facts('status').get(name)])
    expect(status(ours)).toEqual(status(theirs))
    expect(ours('status').get('CapEff')).toBe('00000000a80425fb')
  })

  test('may call what Docker’s may, and of the rest only what is known', () => {
    const more = [...ours('call')].filter(([name, result]) => !isRefused(result) && isRefused(theirs('call').get(name)))
    expect(more.map(([name]) => name).filter((name) => !(name in NEWER_PROFILE))).toEqual([])
    const less = [...ours('call')].filter(([name, result]) => isRefused(result) && !isRefused(theirs('call').get(name)))
    expect(less.map(([name]) => name).filter((name) => !STRICTER.test(name))).toEqual([])
    expect(ours('call').size).toBeGreaterThan(600)
  })

  test('reaches no path of /proc, /sys and /dev that Docker’s does not', () => {
    const hidden = [...theirs('mount').keys()].filter((path) => /^\/(proc|sys)\/./.test(path))
    const more = [...ours('path')].filter(([path, rights]) => {
      const other = theirs('path').get(path)
      if (path.startsWith('/sys/fs/cgroup/')) return rights.includes('w')
      if (other !== undefined) return [...rights].some((right) => right !== 'e' && !other.includes(right))
      // What is not there in Docker’s may have come a moment later; what a mount hides is hidden for good.
      return rights.includes('w') || hidden.some((mount) => path.startsWith(`${mount}/`))
    })
    expect(more).toEqual([])
    expect(ours('path').size).toBeGreaterThan(1_000)
    const masked = [...theirs('path')].filter(([path]) => path.startsWith('/proc/') && !ours('path').has(path))
    expect(masked.map(([path]) => path).filter((path) => path !== '/proc/interrupts')).toEqual([])
  })

  test('has the same devices', () => {
    const devices = (facts: typeof ours) => [...facts('device')].filter(([path]) => path.startsWith('/dev/')).sort()
    expect(devices(ours)).toEqual(devices(theirs))
  })

  test('has every mount with all that restricts it in Docker’s', () => {
    const missing: string[] = []
    for (const [path, options] of theirs('mount')) {
      const mine = ours('mount').get(path)
      if (path.startsWith('/sys/fs/cgroup/') && mine === undefined) continue
      const restrictions = options.split(/[ ,]/).filter((word) => ['ro', 'nosuid', 'nodev', 'noexec'].includes(word))
      for (const word of restrictions) if (!mine?.split(/[ ,]/).includes(word)) missing.push(`${path}: ${word}`)
    }
    expect(missing).toEqual([])
    const more = [...ours('mount').keys()].filter((path) => !theirs('mount').has(path))
    expect(more.filter((path) => !/^\/sys\/fs\/cgroup\/|^\/sys\/devices\/|^\/proc\/interrupts$/.test(path))).toEqual([])
  })

  test('has the same sysctls but for IPv6 on its loopback', () => {
    const passing =
      /^(fs\/(dentry-state|file-nr|inode-|quota\/|aio-nr|dirty)|kernel\/(random\/|ns_last_pid|hostname|pty\/nr))/
    const different = [...ours('sysctl')].filter(
      ([name, value]) => !passing.test(name) && theirs('sysctl').get(name) !== value,
    )
    const known = /^net\/ipv6\/conf\/(all|default|lo)\/disable_ipv6$/
    expect(different.map(([name]) => name).filter((name) => !known.test(name))).toEqual([])
  })

  test('has the same environment, descriptors and limits, and reaches nobody with a signal', () => {
    const names = (facts: typeof ours, kind: string) => [...facts(kind).keys()].sort()
    expect(names(ours, 'environment')).toEqual(names(theirs, 'environment'))
    expect(names(ours, 'descriptor')).toEqual(['0', '1', '2'])
    expect(names(theirs, 'descriptor')).toEqual(['0', '1', '2'])
    expect([...ours('limit')]).toEqual([...theirs('limit')])
    expect([...ours('process')]).toEqual([...theirs('process')])
  })
})

const source = fileURLToPath(new URL('./probe.c', import.meta.url))
