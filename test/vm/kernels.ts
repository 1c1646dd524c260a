/**
 * `npm run kernels`: the suite in a virtual machine with control groups of version 2 only, on other kernels, as root and as an ordinary user.
 *
 * Exit: 0 all passed, 1 something failed, 77 not possible here (the reason is printed).
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { temporaryDirectory } from '../support/temporary.js'
import { makeGuest, missingForGuest } from './guest.js'
import { CACHE, type Kernel, kernelOf, missingForKernels, RELEASES, type Release, SUITES } from './kernel.js'
import { runMachine } from './machine.js'
import { type Outcome, Report } from './report.js'

const HELP = `Usage: npm run kernels -- [options]

  --kernel NAME     ${Object.keys(SUITES).join(', ')}: the kernel of that release of Debian; installed: the one in /boot here; several times
                    (default: those of Debian)
  --user NAME       root, user; default: both, one after the other in one machine
  --timeout SECONDS after which a machine is ended  (default: 900)
  --json FILE       the results, for programs`

/** Of machines, where the emulation itself fails. */
const MOST_ATTEMPTS = 3
const USERS = ['root', 'user'] as const

export async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      kernel: { type: 'string', multiple: true, default: Object.keys(SUITES) },
      user: { type: 'string', multiple: true, default: [...USERS] },
      timeout: { type: 'string', default: '900' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const releases = values.kernel.filter((name): name is Release => RELEASES.some((release) => release === name))
  const users = USERS.filter((name) => values.user.includes(name))
  const timeoutMs = Number(values.timeout) * 1000
  if (values.help || releases.length < values.kernel.length || users.length < values.user.length || !(timeoutMs > 0)) {
    console.log(HELP)
    return values.help ? 0 : 1
  }
  const missing = missingForKernels(releases) ?? missingPrograms() ?? missingForGuest()
  if (missing) {
    console.log(`skipped kernels in virtual machines: ${missing}`)
    return 77
  }
  const outcomes = await tryAll(releases, users, timeoutMs)
  if (values.json) writeFileSync(values.json, `${JSON.stringify(outcomes, undefined, 2)}\n`)
  for (const outcome of outcomes) console.log(inWords(outcome))
  return outcomes.every(({ failed, passed }) => failed === 0 && passed > 0) ? 0 : 1
}

function missingPrograms(): string | undefined {
  const packages = {
    'qemu-system-x86_64': 'qemu-system-x86',
    cpio: 'cpio',
    mke2fs: 'e2fsprogs',
    depmod: 'kmod',
    gcc: 'gcc',
  }
  const [, name] = Object.entries(packages).find(([program]) => spawnSync(program, ['--version']).error) ?? []
  return name && `apt-get install ${name}`
}

async function tryAll(releases: readonly Release[], users: readonly string[], timeoutMs: number): Promise<Outcome[]> {
  const scratch = temporaryDirectory('kernels')
  const remove = () => rmSync(scratch, { recursive: true, force: true })
  process.once('exit', remove)
  try {
    const disk = join(scratch, 'disk.img')
    execFileSync('make', ['-s', '-C', join(CHECKOUT, 'native'), 'all', 'build/test/cgroup_test'], { stdio: 'inherit' })
    await makeGuest(CHECKOUT, scratch, disk)
    const outcomes: Outcome[] = []
    for (const release of releases) outcomes.push(...(await tryOne(await kernelOf(release), users, disk, timeoutMs)))
    return outcomes
  } finally {
    process.off('exit', remove)
    remove()
  }
}

async function tryOne(kernel: Kernel, users: readonly string[], disk: string, timeoutMs: number): Promise<Outcome[]> {
  mkdirSync(join(CACHE, 'logs'), { recursive: true })
  const stamp = new Date().toISOString().replace(/\D/g, '').slice(0, 14)
  const log = join(CACHE, 'logs', `${kernel.release}-${stamp}.log`)
  console.log(`${titleOf(kernel.release)}, Linux ${kernel.version}: ${log}`)
  const words = [`mayfly.users=${users.join(',')}`]
  for (let attempt = 1; ; attempt++) {
    const report = new Report(kernel, users)
    const end = await runMachine({ kernel, disk, words, log, timeoutMs, line: (line) => report.read(line) })
    if (!report.hasLostRace || attempt === MOST_ATTEMPTS) return report.outcomes(end)
    console.log('The emulator ran code that the kernel was just changing (Oops: int3): once more')
  }
}

function titleOf(release: string): string {
  return release === 'installed' ? 'installed' : `Debian ${release}`
}

function inWords({ release, kernel, user, passed, failed, skipped, failures }: Outcome): string {
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped`
  return [`${titleOf(release)}, Linux ${kernel}, ${user}: ${counts}`, ...failures.map((line) => `  ✗ ${line}`)].join(
    '\n',
  )
}

declare const CHECKOUT: string
