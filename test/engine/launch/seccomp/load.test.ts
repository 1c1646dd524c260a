import { execFileSync, spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ALL_CAPABILITIES, DEFAULT_CAPABILITIES } from '../../../../src/engine/launch/capabilities.js'
import { compileSeccomp } from '../../../../src/engine/launch/seccomp/compile.js'
import { DEFAULT_SECCOMP_PROFILE } from '../../../../src/engine/launch/seccomp/default-profile.js'
import { type Architecture, syscallNumbers } from '../../../../src/engine/launch/seccomp/syscalls.js'
import { temporaryDirectory } from '../../../support/temporary.js'

const [EPERM, EBADF, ENOSYS, EAFNOSUPPORT] = [1, 9, 38, 97]
const architecture = process.arch as Architecture
const hasCompiler = !spawnSync('gcc', ['--version']).error
const reason = process.platform !== 'linux' ? 'needs Linux' : hasCompiler ? '' : 'needs gcc'

describe.skipIf(reason)(`this kernel, with the default filter loaded${reason && ` (skipped: ${reason})`}`, () => {
  let directory: string
  beforeAll(() => {
    directory = temporaryDirectory('seccomp')
    const source = fileURLToPath(new URL('load.c', import.meta.url))
    execFileSync('gcc', ['-Wall', '-Wextra', '-Werror', '-O2', '-o', join(directory, 'load'), source])
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  const load = (args: readonly string[], capabilities = DEFAULT_CAPABILITIES) => {
    const { code } = compileSeccomp(DEFAULT_SECCOMP_PROFILE, { architecture, capabilities, kernel: release() })
    return execFileSync(join(directory, 'load'), args, { input: code, encoding: 'utf8' }).trim().split('\n').map(Number)
  }
  /** errno of each call; a call is a name and its arguments. */
  const errnos = (calls: readonly (readonly [string, ...(number | bigint)[]])[], capabilities?: bigint) =>
    load(
      calls.map(([name, ...args]) => `${syscallNumbers(architecture).get(name)}:${args.join(',')}`),
      capabilities,
    )

  it('lets ordinary calls through', () => {
    expect(errnos([['getpid'], ['umask', 0o22], ['close', 999], ['socket', 2, 1, 0], ['sched_yield']])).toEqual([
      0,
      0,
      EBADF,
      0,
      0,
    ])
  })

  it('refuses dangerous calls', () => {
    const calls = [
      'unshare',
      'mount',
      'bpf',
      'keyctl',
      'io_uring_setup',
      'userfaultfd',
      'setns',
      'open_tree',
      'kexec_load',
    ]
    expect(errnos(calls.map((name) => [name] as const))).toEqual(calls.map(() => EPERM))
  })

  it('answers clone3 and calls that it does not know with ENOSYS', () => {
    expect(errnos([['clone3'], ['open_tree_attr']])).toEqual([ENOSYS, ENOSYS])
    expect(load(['5000'])).toEqual([ENOSYS])
  })

  it('refuses AF_ALG and AF_VSOCK however the register is dressed up', () => {
    const families = [38n, 40n, 0x1_0000_0026n, 0x1_0000_0028n]
    expect(errnos(families.map((family) => ['socket', family, 5, 0] as const))).toEqual(families.map(() => EPERM))
    expect(errnos([['socket', 37, 1, 0]])[0]).not.toBe(EPERM) // none or AF_CAIF: EAFNOSUPPORT or whatever the kernel has
    expect([0, EAFNOSUPPORT, 94, 93]).toContain(errnos([['socket', 41, 1, 0]])[0])
  })

  it('refuses clone with a namespace flag', () => {
    expect(errnos([['clone', 0x10000000 | 17]])).toEqual([EPERM])
  })

  it('lets through with all capabilities what it refuses without', () => {
    expect(errnos([['setns', 999, 0]], ALL_CAPABILITIES)).toEqual([EBADF])
  })

  it('loads in little time', () => {
    const [nanoseconds] = load(['time', '200'])
    console.log(`seccomp filter loaded in ${(nanoseconds! / 1000).toFixed(0)} µs (median of 200)`)
    expect(nanoseconds).toBeLessThan(2_000_000)
  })
})
