/** Linux capabilities: names, bits, and which of them a container gets. */

import { MayflyError } from '../errors.js'

/** Names without `CAP_`, in the order of their bits (capability.h). */
const NAMES =
  `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
  NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT
  SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
  WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`.split(/\s+/)

/** `CAP_CHOWN` → its bit. */
const BITS: ReadonlyMap<string, bigint> = new Map(NAMES.map((name, bit) => [`CAP_${name}`, 1n << BigInt(bit)]))

/** Every capability that Linux has (5.9, which added the last one). */
export const ALL_CAPABILITIES: bigint = (1n << BigInt(NAMES.length)) - 1n

/** What a container gets unless told otherwise: Docker's 14. */
export const DEFAULT_CAPABILITIES: bigint = maskOf(
  `CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE`
    .split(' ')
    .map((name) => `CAP_${name}`),
)

/** `kill`, `CAP_KILL` → `CAP_KILL`; `all` → `ALL`; `undefined` when there is no such capability. */
export function normalizeCapability(name: string): string | undefined {
  const upper = name.toUpperCase()
  if (upper === 'ALL' || upper === 'CAP_ALL') return 'ALL'
  const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  return BITS.has(full) ? full : undefined
}

/** Bits of normalized names; `ALL` counts as every one. */
export function maskOf(names: readonly string[]): bigint {
  return names.reduce((mask, name) => mask | (name === 'ALL' ? ALL_CAPABILITIES : BITS.get(name)!), 0n)
}

/** Names of the bits, lowest first. */
export function capabilityNames(mask: bigint): string[] {
  return [...BITS].filter(([, bit]) => mask & bit).map(([name]) => name)
}

/**
 * The capabilities of a container, with Docker's meaning of `--cap-add` and `--cap-drop`:
 *
 * - privileged: all of them, whatever is dropped;
 * - `ALL` added: all but the ones dropped by name;
 * - `ALL` dropped: only the ones added by name;
 * - else: the default ones without the dropped, then with the added (what is in both lists is added).
 */
export function resolveCapabilities(add: readonly string[], drop: readonly string[], privileged: boolean): bigint {
  const named = (names: readonly string[]) => maskOf(names.filter((name) => name !== 'ALL'))
  if (privileged) return ALL_CAPABILITIES
  if (add.includes('ALL')) return ALL_CAPABILITIES & ~named(drop)
  if (drop.includes('ALL')) return named(add)
  return (DEFAULT_CAPABILITIES & ~named(drop)) | named(add)
}

/**
 * Takes away what this machine cannot give. That is no error for capabilities that came with `privileged`, `ALL` or the
 * defaults; one that was added by name and is not there throws CAPABILITY_UNAVAILABLE.
 */
export function limitCapabilities(wanted: bigint, available: bigint, add: readonly string[]): bigint {
  const index = add.findIndex((name) => name !== 'ALL' && wanted & maskOf([name]) && !(available & maskOf([name])))
  if (index >= 0) {
    const value = add[index]!
    throw new MayflyError('CAPABILITY_UNAVAILABLE', `capAdd[${index}]: ${value} is not available to this process`, {
      field: `capAdd[${index}]`,
      value,
      hint: 'the bounding set of the process that uses mayfly lacks it (CapBnd in /proc/self/status), as in most CI containers',
    })
  }
  return wanted & available
}
