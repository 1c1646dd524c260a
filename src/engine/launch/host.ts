/** Reads the facts of the host that plans need: small files of /proc, /sys, /etc, and device nodes on demand. */

import { existsSync, lstatSync, readdirSync, readFileSync, type Stats, statSync } from 'node:fs'
import { hostname, release } from 'node:os'
import { join } from 'node:path'
import { isOutOfDescriptors, outOfDescriptors } from '../descriptors.js'
import { MayflyError } from '../errors.js'
import type { HostDevice, HostFacts } from './facts.js'

/**
 * Takes well below a millisecond. Throws NOT_SUPPORTED on another processor than x64 and arm64, ENGINE_UNAVAILABLE where /proc cannot be
 * read.
 */
export function readHost(): HostFacts {
  const { arch } = process
  if (arch !== 'x64' && arch !== 'arm64') {
    throw new MayflyError('NOT_SUPPORTED', `mayfly's own engine runs on x64 and arm64, not on ${arch}`, { value: arch })
  }
  return {
    arch,
    kernel: release(),
    cpus: countProcessors(read('/sys/devices/system/cpu/possible')),
    capabilities: boundingSet(read('/proc/self/status')),
    kernelCapabilities: (1n << (BigInt(read('/proc/sys/kernel/cap_last_cap').trim() || 40) + 1n)) - 1n,
    limitsSwap: canLimitSwap(),
    hostname: hostname(),
    hosts: read('/etc/hosts'),
    resolvConf: read('/etc/resolv.conf'),
    hostDevices,
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isOutOfDescriptors(error)) throw outOfDescriptors(`Cannot read ${path}`)
    return '' // missing or not ours to read: the fact is then not known
  }
}

/** To go on without would give every container no capability at all, which shows as errors of the programs in it. */
export function boundingSet(status: string): bigint {
  const found = /^CapBnd:\s*([\da-f]+)/m.exec(status)?.[1]
  if (found === undefined) {
    throw new MayflyError(
      'ENGINE_UNAVAILABLE',
      'Cannot read /proc/self/status, which tells what containers may be given',
      {
        hint: 'mount /proc; under Deno, only --allow-all gives access to it',
      },
    )
  }
  return BigInt(`0x${found}`)
}

/** `0-3,8-9` → 10: the numbers go up to the last, and so must what is masked for each. */
export function countProcessors(possible: string): number {
  const last = /(\d+)\s*$/.exec(possible)?.[1]
  return last === undefined ? 1 : Number(last) + 1
}

/** Version 1 counts swap only with a kernel option; version 2 always. /proc/swaps has one line of heading. */
function canLimitSwap(): boolean {
  const hasSwap = read('/proc/swaps').trim().split('\n').length > 1
  return (
    hasSwap && (!existsSync('/sys/fs/cgroup/memory') || existsSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes'))
  )
}

/** Below /dev, what belongs to the host's terminals, or is made anew for each container. */
const NOT_SHARED = new Set(['pts', 'shm', 'mqueue', 'fd', 'console', 'ptmx', '.lxc', '.lxd-mounts', '.udev'])

function hostDevices(path: string): readonly HostDevice[] {
  try {
    const stats = statSync(path)
    return stats.isDirectory() ? devicesBelow(path) : toDevice(path, stats)
  } catch {
    return []
  }
}

function devicesBelow(directory: string): HostDevice[] {
  return readdirSync(directory)
    .sort()
    .flatMap((name) => {
      if (NOT_SHARED.has(name)) return []
      const path = join(directory, name)
      const stats = lstatSync(path, { throwIfNoEntry: false })
      if (!stats) return []
      return stats.isDirectory() ? devicesBelow(path) : toDevice(path, stats)
    })
}

function toDevice(path: string, stats: Stats): HostDevice[] {
  const type = stats.isCharacterDevice() ? 'c' : stats.isBlockDevice() ? 'b' : undefined
  if (!type) return []
  // The C library's dev_t: 12 bits of the minor number are above 20 of the major's (makedev(3)).
  const number = BigInt(stats.rdev)
  return [
    {
      path,
      type,
      major: Number(((number >> 8n) & 0xfffn) | ((number >> 32n) & 0xfffff000n)),
      minor: Number((number & 0xffn) | ((number >> 12n) & 0xffffff00n)),
      mode: stats.mode & 0o777,
    },
  ]
}
