/** A virtual machine, emulated (no KVM needed), which ends by itself, at its time limit, or with this process. */

import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'
import type { Kernel } from './kernel.js'

export interface MachineOptions {
  readonly kernel: Kernel
  /** Image of the first disk; what is written to it is lost. */
  readonly disk: string
  /** More words for the kernel. */
  readonly words: readonly string[]
  /** Where all that it prints is kept. */
  readonly log: string
  readonly timeoutMs: number
  readonly line: (line: string) => void
}

const MEMORY_MEBIBYTES = 3072
/** All of it speed: no side channels to close, nothing to be cleared, no watchdog for a slow emulation. */
const WORDS =
  'console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off init_on_alloc=0 nowatchdog rcupdate.rcu_cpu_stall_suppress=1'

/** Resolves when the machine is off: to whether it was within its time. */
export async function runMachine({
  kernel,
  disk,
  words,
  log,
  timeoutMs,
  line,
}: MachineOptions): Promise<'off' | 'timeout'> {
  const drive = (file: string, more: string) => ['-drive', `file=${file},format=raw,if=virtio,${more}`]
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...[
        '-machine',
        'accel=tcg',
        '-cpu',
        'max',
        '-smp',
        '2',
        '-m',
        String(MEMORY_MEBIBYTES),
        '-nodefaults',
        '-no-reboot',
      ],
      ...[
        '-display',
        'none',
        '-serial',
        'stdio',
        '-kernel',
        `${kernel.directory}/vmlinuz`,
        '-initrd',
        `${kernel.directory}/initrd`,
      ],
      ...drive(disk, 'cache=unsafe,snapshot=on'),
      ...drive(`${kernel.directory}/modules.img`, 'readonly=on'),
      ...['-append', `${WORDS} cgroup_no_v1=all rdinit=/init ${words.join(' ')}`],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const kill = () => void child.kill('SIGKILL')
  process.once('exit', kill)
  const file = createWriteStream(log, { flags: 'a' })
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    const text = chunk.replaceAll('\r', '')
    file.write(text)
    const lines = (rest + text).split('\n')
    rest = lines.pop()!
    lines.forEach(line)
  })
  child.stderr.on('data', (chunk) => file.write(chunk))
  let isLate = false
  const timer = setTimeout(() => {
    isLate = true
    file.write(`\nended after ${timeoutMs / 1000} s\n`)
    kill()
  }, timeoutMs)
  try {
    await new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    })
    return isLate ? 'timeout' : 'off'
  } finally {
    clearTimeout(timer)
    process.off('exit', kill)
    file.end()
    await finished(file)
  }
}
