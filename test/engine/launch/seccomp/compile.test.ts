import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ALL_CAPABILITIES,
  capabilityNames,
  DEFAULT_CAPABILITIES,
  maskOf,
} from '../../../../src/engine/launch/capabilities.js'
import { compileSeccomp } from '../../../../src/engine/launch/seccomp/compile.js'
import { DEFAULT_SECCOMP_PROFILE } from '../../../../src/engine/launch/seccomp/default-profile.js'
import { type Architecture, syscallNumbers } from '../../../../src/engine/launch/seccomp/syscalls.js'
import type { SeccompProfile } from '../../../../src/engine/options.js'
import { decode, interpret } from './interpreter.js'
import { oracle, type World } from './oracle.js'

const AUDIT = { x64: 0xc000003e, arm64: 0xc00000b7 } as const
const AUDIT_I386 = 0x40000003
const ALLOWED = 0x7fff0000
const errno = (number: number) => 0x50000 + number
const [EPERM, ENOSYS] = [1, 38]

function compile(
  profile: SeccompProfile,
  architecture: Architecture = 'x64',
  capabilities = DEFAULT_CAPABILITIES,
  kernel = '6.18.0',
) {
  const instructions = decode(compileSeccomp(profile, { architecture, capabilities, kernel }).code)
  const run = (number: number, ...args: (bigint | number)[]) =>
    interpret(instructions, { audit: AUDIT[architecture], number, args: args.map(BigInt) })
  return {
    instructions,
    run,
    call: (name: string, ...args: (bigint | number)[]) => run(syscallNumbers(architecture).get(name)!, ...args).value,
  }
}

function worldOf(architecture: Architecture, capabilities: bigint): World {
  return {
    goArchitecture: architecture === 'x64' ? 'amd64' : 'arm64',
    capabilities: capabilityNames(capabilities),
    kernel: [6, 18],
    numbers: syscallNumbers(architecture),
  }
}

/** Arguments at and around every value that the default profile compares with. */
const INTERESTING = [
  0n,
  1n,
  8n,
  9n,
  37n,
  38n,
  39n,
  40n,
  41n,
  45n,
  46n,
  0x11n,
  0x20000n,
  0x20008n,
  0x2000_0000n,
  0x7e02_0000n,
  0xffff_ffffn,
  0x1_0000_0026n,
  0x1_0000_0028n,
  0xffff_ffff_ffff_ffffn,
]

describe('the default profile, compiled', () => {
  for (const architecture of ['x64', 'arm64'] as const) {
    for (const [label, capabilities] of [
      ['the default capabilities', DEFAULT_CAPABILITIES],
      ['all capabilities', ALL_CAPABILITIES],
      ['no capabilities', 0n],
      ['CAP_SYS_ADMIN alone', maskOf(['CAP_SYS_ADMIN'])],
    ] as const) {
      it(`says on ${architecture} with ${label} what the profile says, for every number`, () => {
        const { run } = compile(DEFAULT_SECCOMP_PROFILE, architecture, capabilities)
        const expected = oracle(DEFAULT_SECCOMP_PROFILE, worldOf(architecture, capabilities))
        const wrong: string[] = []
        const numbers = [
          ...Array(600).keys(),
          0x3fffffff,
          0x40000000,
          0x40000000 + 41,
          0x7fffffff,
          0x80000000,
          0xffffffff,
        ]
        for (const number of numbers) {
          for (const argument of INTERESTING) {
            const args = [argument, argument]
            if (run(number, ...args).value !== expected(number, args)) wrong.push(`${number}(${argument})`)
          }
        }
        expect(wrong).toEqual([])
      })
    }

    it(`is small and shallow on ${architecture}`, () => {
      const { instructions, run } = compile(DEFAULT_SECCOMP_PROFILE, architecture)
      expect(instructions.length).toBeLessThan(120)
      for (let number = 0; number < 470; number++) expect(run(number).steps).toBeLessThan(25)
    })
  }

  it('has the 361 names of Docker in its base list', () => {
    expect(new Set(DEFAULT_SECCOMP_PROFILE.syscalls![0]!.names).size).toBe(361)
  })

  it('allows what programs live on', () => {
    const { call } = compile(DEFAULT_SECCOMP_PROFILE)
    for (const name of [
      'read',
      'execve',
      'mmap',
      'futex',
      'ptrace',
      'chroot',
      'openat2',
      'statx',
      'arch_prctl',
      'memfd_create',
    ]) {
      expect(call(name), name).toBe(ALLOWED)
    }
  })

  it('refuses the kernel’s sharp corners with EPERM', () => {
    const { call } = compile(DEFAULT_SECCOMP_PROFILE)
    const names =
      `add_key keyctl request_key mount umount2 pivot_root fsopen fsmount open_tree move_mount mount_setattr unshare setns
      bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register kexec_load init_module kcmp pidfd_getfd
      open_by_handle_at settimeofday iopl mbind reboot swapon acct sethostname syslog`.split(/\s+/)
    for (const name of names) expect(call(name), name).toBe(errno(EPERM))
  })

  it('lets the C library fall back from clone3 to clone', () => {
    expect(compile(DEFAULT_SECCOMP_PROFILE).call('clone3')).toBe(errno(ENOSYS))
  })

  it('refuses clone with any namespace flag and allows it without', () => {
    const { call } = compile(DEFAULT_SECCOMP_PROFILE)
    for (const flag of [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]) {
      expect(call('clone', flag | 17)).toBe(errno(EPERM))
    }
    expect(call('clone', 0x3d0f00)).toBe(ALLOWED)
  })

  it('refuses AF_ALG and AF_VSOCK, also with bits above the family', () => {
    const { call } = compile(DEFAULT_SECCOMP_PROFILE)
    for (const family of [38n, 40n, 0x1_0000_0026n, 0x1_0000_0028n, 0xffff_ffff_0000_0026n]) {
      expect(call('socket', family), `family ${family}`).toBe(errno(EPERM))
    }
    for (const family of [1, 2, 10, 16, 17, 37, 39, 41, 42, 43, 44, 45]) expect(call('socket', family)).toBe(ALLOWED)
  })

  it('answers calls that are newer than the profile with ENOSYS', () => {
    const { run, call } = compile(DEFAULT_SECCOMP_PROFILE)
    expect(call('removexattrat')).toBe(ALLOWED)
    expect(call('open_tree_attr')).toBe(errno(ENOSYS))
    expect(run(5000).value).toBe(errno(ENOSYS))
  })

  it('opens a call with the capability that it needs, and no other', () => {
    const { call } = compile(DEFAULT_SECCOMP_PROFILE, 'x64', DEFAULT_CAPABILITIES | maskOf(['CAP_SYS_TIME']))
    expect(call('clock_settime')).toBe(ALLOWED)
    expect(call('mount')).toBe(errno(EPERM))
  })

  it('refuses ptrace on kernels where it gets around the filter', () => {
    expect(compile(DEFAULT_SECCOMP_PROFILE, 'x64', DEFAULT_CAPABILITIES, '4.4.0-generic').call('ptrace')).toBe(
      errno(EPERM),
    )
  })
})

describe('foreign architectures', () => {
  it('are refused with the profile’s own refusal', () => {
    const { instructions } = compile(DEFAULT_SECCOMP_PROFILE)
    for (const audit of [AUDIT_I386, AUDIT.arm64, 0]) {
      expect(interpret(instructions, { audit, number: 0 }).value).toBe(errno(EPERM))
    }
  })

  it('are refused also by a profile that allows all it does not name', () => {
    const { instructions, run } = compile({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mount'], action: 'SCMP_ACT_ERRNO' }],
    })
    expect(interpret(instructions, { audit: AUDIT_I386, number: 21 }).value).toBe(errno(EPERM))
    expect(run(0x40000000 + 165).value).toBe(errno(EPERM))
    expect(run(165).value).toBe(errno(EPERM))
    expect(run(0).value).toBe(ALLOWED)
    expect(run(5000).value).toBe(ALLOWED)
  })
})

describe('any profile', () => {
  const names = [...syscallNumbers('x64').keys()]
  const action = fc.record({
    action: fc.constantFrom(
      'SCMP_ACT_ALLOW',
      'SCMP_ACT_ERRNO',
      'SCMP_ACT_KILL',
      'SCMP_ACT_KILL_PROCESS',
      'SCMP_ACT_TRAP',
      'SCMP_ACT_TRACE',
      'SCMP_ACT_LOG',
    ),
    errnoRet: fc.option(fc.integer({ min: 0, max: 0xffff }), { nil: undefined }),
  })
  const value = fc.oneof(
    fc.constantFrom(0, 1, 2, 0xffffffff, 0x100000000, 0x100000001, Number.MAX_SAFE_INTEGER),
    fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  )
  const condition = fc.record({
    index: fc.integer({ min: 0, max: 5 }),
    op: fc.constantFrom('NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ').map((op) => `SCMP_CMP_${op}`),
    value,
    valueTwo: value,
  })
  const filter = fc.record(
    {
      caps: fc.subarray(['CAP_CHOWN', 'CAP_SYS_ADMIN']),
      arches: fc.subarray(['amd64', 'arm64', 'arm']),
      minKernel: fc.constantFrom('4.8', '6.18', '6.19', '7.0'),
    },
    { requiredKeys: [] },
  )
  const rule = fc
    .tuple(
      action,
      fc.record(
        {
          names: fc.oneof(
            fc.array(fc.constantFrom(...names.slice(0, 60)), { maxLength: 8 }),
            fc.subarray(names, { maxLength: 20 }),
            fc.constant(names.slice(20, 300)),
            fc.constant(['no_such_call']),
          ),
          args: fc.array(condition, { maxLength: 4 }),
          includes: filter,
          excludes: filter,
        },
        { requiredKeys: ['names'] },
      ),
    )
    .map(([what, rest]) => ({
      ...rest,
      action: what.action,
      ...(what.errnoRet === undefined ? {} : { errnoRet: what.errnoRet }),
    }))
  const profile = fc.tuple(action, fc.array(rule, { maxLength: 8 })).map(
    ([what, syscalls]): SeccompProfile => ({
      defaultAction: what.action,
      ...(what.errnoRet === undefined ? {} : { defaultErrnoRet: what.errnoRet }),
      syscalls,
    }),
  )

  it('is compiled to a filter that says what the profile says', () => {
    fc.assert(
      fc.property(
        profile,
        fc.constantFrom('x64' as const, 'arm64' as const),
        fc.array(value, { minLength: 16, maxLength: 16 }),
        (given, architecture, values) => {
          const capabilities = DEFAULT_CAPABILITIES
          const { run } = compile(given, architecture, capabilities)
          const expected = oracle(given, worldOf(architecture, capabilities))
          const compared = given
            .syscalls!.flatMap((one) => one.args ?? [])
            .flatMap((one) => [one.value, one.valueTwo ?? 0])
          for (let number = 0; number < 480; number += 1) {
            const pick = (position: number) => {
              const near = compared.length > 0 ? compared[(number * 7) % compared.length]! : 0
              return (
                BigInt(number % 3 === 0 ? near : values[(number * 5 + position) % values.length]!) +
                BigInt(number % 5 === 0 ? 1 : 0)
              )
            }
            const args = Array.from({ length: 6 }, (_, position) => pick(position))
            if (run(number, ...args).value !== expected(number, args))
              throw new Error(`differs for call ${number}(${args})`)
          }
        },
      ),
      { numRuns: 100, endOnFailure: true },
    )
  }, 120_000)

  it('reaches over more than 255 instructions', () => {
    const wide: SeccompProfile = {
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: names.slice(0, 200).map((name, index) => ({
        names: [name],
        action: index % 2 ? 'SCMP_ACT_ALLOW' : 'SCMP_ACT_ERRNO',
        errnoRet: index + 2,
        args: [0, 1, 2].map((at) => ({ index: at, op: 'SCMP_CMP_GE', value: 2 ** 33 + index })),
      })),
    }
    const { instructions, run } = compile(wide)
    expect(instructions.length).toBeGreaterThan(2000)
    const expected = oracle(wide, worldOf('x64', DEFAULT_CAPABILITIES))
    for (let number = 0; number < 470; number++) {
      for (const base of [0, 2 ** 33, 2 ** 40]) {
        const args = [0, 1, 2].map((more) => BigInt(base + number + more))
        expect(run(number, ...args).value).toBe(expected(number, args))
      }
    }
  })

  it('that needs more instructions than the kernel takes is refused with a message', () => {
    const huge: SeccompProfile = {
      defaultAction: 'SCMP_ACT_ERRNO',
      syscalls: Array.from({ length: 1100 }, (_, index) => ({
        names: ['ioctl'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 1, op: 'SCMP_CMP_EQ', value: 2 ** 33 + index }],
      })),
    }
    expect(() => compile(huge)).toThrow(/the kernel takes 4096/)
  })

  it('is compiled once for equal profiles and subjects', () => {
    const subject = { architecture: 'x64' as const, capabilities: 0n, kernel: '6.18.0' }
    const profile: SeccompProfile = { defaultAction: 'SCMP_ACT_ALLOW' }
    const first = compileSeccomp(profile, subject)
    expect(compileSeccomp({ ...profile }, subject)).toBe(first)
    expect(compileSeccomp({ defaultAction: 'SCMP_ACT_LOG' }, subject).name).not.toBe(first.name)
    expect(first.name).toMatch(/^[0-9a-f]{32}$/)
  })
})
