/** `mayfly doctor` on this machine, as root and as an ordinary user: it says something true and leaves nothing. */
import { execFileSync } from 'node:child_process'
import { chownSync, readdirSync, readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { formatDiagnosis } from '../../src/cli/doctor.js'
import type { Diagnosis, Finding } from '../../src/engine/doctor.js'
import { Bench, whyNoContainers } from './command.js'

const why = whyNoContainers()
if (why) console.log(`skipped: mayfly doctor on this machine, because ${why}`)
const isRoot = process.getuid!() === 0
if (!isRoot) console.log('skipped: mayfly doctor on machines that forbid things, because making one takes root')

describe('the doctor’s lines', () => {
  const findings: Finding[] = [
    { group: 'containers', name: 'a container runs', verdict: 'works', detail: 'in 2 ms' },
    { group: 'limits', name: 'cpuset', verdict: 'absent', why: 'not delegated' },
    {
      group: 'network',
      name: 'bridge',
      verdict: 'fails',
      why: 'link bridge: EOPNOTSUPP',
      remedy: 'sudo modprobe bridge',
    },
  ]

  test('say what works, what does not, why, and what mends it, one line each', () => {
    const machine = { kernel: '6.1.0', architecture: 'x64', nodeVersion: '22.1.0' }
    const text = formatDiagnosis({ canRun: true, machine, findings } as unknown as Diagnosis)
    expect(text.split('\n')).toEqual([
      'Linux 6.1.0, x64, Node 22.1.0',
      '',
      'containers',
      '  ✓ a container runs: in 2 ms',
      '',
      'network',
      '  ✗ bridge: link bridge: EOPNOTSUPP  →  sudo modprobe bridge',
      '',
      'limits',
      '  – cpuset: not delegated',
      '',
      'Containers run on this machine (1 ✓  1 ✗  1 –)',
      '',
    ])
  })
})

describe.skipIf(why)('mayfly doctor', () => {
  let bench: Bench
  beforeEach(({ task }) => {
    bench = new Bench(task.name.includes('ordinary user') && isRoot ? 'nobody' : 'self')
  })
  afterEach(() => bench[Symbol.dispose]())

  test('runs a container and exits with 0', async () => {
    const { code, stdout, stderr } = await bench.call(['doctor'])
    expect(stderr).toBe('')
    expect(stdout).toMatch(/✓ a container runs: call to exit and removal in \d+\.\d ms/)
    expect(stdout).toContain('Containers run on this machine')
    expect(code).toBe(0)
  })

  test('as an ordinary user it says what that user has and has not', async () => {
    const { stdout } = await bench.call(['doctor', '--json'])
    const { findings, canRun } = JSON.parse(stdout) as Diagnosis
    const privileges = findings.find(({ name }) => name === 'privileges')
    expect(privileges?.detail).toContain('containers live in a user namespace')
    expect(findings.find(({ name }) => name === 'range of ids')).toBeDefined()
    // Whatever it says, it has a reason for it.
    expect(findings.filter(({ verdict, why }) => verdict !== 'works' && !why)).toEqual([])
    expect(findings.find(({ name }) => name === 'a container runs')?.verdict).toBe(canRun ? 'works' : 'fails')
  })

  test('leaves nothing behind', async () => {
    const before = state(bench.home)
    await bench.call(['doctor', '--json'])
    await expect.poll(() => state(bench.home), { timeout: 5_000 }).toEqual(before)
  })

  test.skipIf(!isRoot)('finds the switch that forbids user namespaces', async () => {
    // The limit counts for a user namespace as it does for a machine.
    const script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set -all --inh-caps -all "$@"'
    const { code, stdout } = await bench.callThrough(['unshare', '-Ur', 'sh', '-c', script, 'sh'], ['doctor'])
    expect(stdout).toContain('✗ user: unshare user namespace: ENOSPC; user.max_user_namespaces is 0  →  sudo sysctl -w')
    expect(stdout).toMatch(/✗ pid, mount, network, ipc, uts, cgroup, time: for want of a user namespace/)
    expect(code).toBe(1)
  })

  test.skipIf(!isRoot)('finds the covered /proc of an unprivileged container', async () => {
    const script = 'mount --bind /dev/null /proc/keys; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
    chownSync(bench.directory, 65534, 65534)
    chownSync(bench.home, 65534, 65534)
    const { code, stdout } = await bench.callThrough(['unshare', '-m', 'sh', '-c', script, 'sh'], ['doctor'])
    expect(stdout).toContain('✗ /proc: mount proc: EPERM; parts of /proc are covered here')
    expect(code).toBe(1)
  })

  test('exits with 1 and a reason where the store cannot be', async () => {
    const { code, stdout } = await bench.call(['doctor'], '', { env: { MAYFLY_HOME: '/proc/mayfly' } })
    expect(stdout).toContain('✗ store /proc/mayfly')
    expect(stdout).toContain('Containers cannot run on this machine as it is')
    expect(code).toBe(1)
  })
})

/** What a careless doctor could have changed: its directory, this process's mounts, the groups named mayfly. */
function state(home: string) {
  const doctorsGroups = execFileSync('find', ['/sys/fs/cgroup', '-type', 'd', '-name', 'mayfly-d0c*'], {
    encoding: 'utf8',
  })
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(home))
  return { home: readdirSync(home), mounts, doctorsGroups }
}
