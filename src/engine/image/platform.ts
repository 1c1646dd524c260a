/** Platforms: which of the images of an index runs here. */

import { MayflyError } from '../errors.js'
import type { Descriptor } from './manifest.js'

/** Operating system, processor and variant in Go's words, as in an index: `linux/arm64/v8`. */
export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

const ARCHITECTURES: Readonly<Record<string, readonly [architecture: string, variant?: string]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
  i386: ['386'],
  x64: ['amd64'],
  ia32: ['386'],
}
/** What an architecture means without a variant. Left out of a normal form. */
const IMPLIED: Readonly<Record<string, string>> = { amd64: 'v1', arm64: 'v8', arm: 'v7' }
const KNOWN = ['amd64', 'arm64', 'arm', '386', 'ppc64le', 's390x', 'riscv64', 'loong64', 'mips64le', 'mips64', 'ppc64']
const WORD = /^[A-Za-z0-9_.-]+$/

/**
 * Reads `os/architecture[/variant]`, or one of the first two alone, as `docker --platform` does.
 *
 * Throws INVALID_OPTION for anything else.
 */
export function parsePlatform(text: string): Platform {
  const words = text.split('/')
  if (words.length > 3 || !words.every((word) => WORD.test(word))) throw invalid(text)
  const [first, architecture, variant] = words as [string, string?, string?]
  if (architecture !== undefined) return normalPlatform({ os: first, architecture, ...(variant ? { variant } : {}) })
  const alone = first.toLowerCase()
  if (alone === 'linux' || alone === 'windows') return { ...hostPlatform(), os: alone }
  if (KNOWN.includes(alone) || Object.hasOwn(ARCHITECTURES, alone)) {
    return normalPlatform({ os: 'linux', architecture: alone })
  }
  throw invalid(text)
}

function invalid(text: string): MayflyError {
  return new MayflyError(
    'INVALID_OPTION',
    `${JSON.stringify(text)} is no platform: expected os/architecture[/variant]`,
    {
      field: 'platform',
      value: text,
      hint: 'for example linux/amd64 or linux/arm64',
    },
  )
}

/** The platform of this process: what images are for unless something else is asked. */
export function hostPlatform(): Platform {
  const architecture = process.arch === 'arm' ? 'arm' : (ARCHITECTURES[process.arch]?.[0] ?? process.arch)
  return { os: 'linux', architecture: architecture === 'ppc64' ? 'ppc64le' : architecture }
}

/** One form for each meaning: `arm64/v8` is `arm64`, `x86_64` is `amd64`, `arm` is `arm/v7`. */
function normalPlatform(platform: Platform): Platform {
  const name = platform.architecture.toLowerCase()
  const [architecture, implied] = (Object.hasOwn(ARCHITECTURES, name) && ARCHITECTURES[name]) || [name]
  const given = platform.variant?.toLowerCase() || implied
  // An index may write `8` for `v8`.
  const variant = given && /^[0-9]/.test(given) ? `v${given}` : given
  const usual = IMPLIED[architecture]
  const os = platform.os.toLowerCase()
  if (architecture === 'arm') return { os, architecture, variant: variant ?? usual! }
  return { os, architecture, ...(variant && variant !== usual ? { variant } : {}) }
}

/** `linux/arm64`, as people write it. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant ? [variant] : [])].join('/')
}

/**
 * Whether what is built for `offered` runs where `wanted` is asked for: the same, or an older variant of the same
 * architecture. Never another architecture: 32-bit programs on a 64-bit kernel are behind the seccomp filter.
 */
export function platformMatches(wanted: Platform, offered: Platform): boolean {
  return preference(wanted, offered) >= 0
}

/** -1: does not run. Else the lower, the better: 0 is exactly what was asked. */
function preference(wanted: Platform, offered: Platform): number {
  const a = normalPlatform(wanted)
  const b = normalPlatform(offered)
  if (a.os !== b.os || a.architecture !== b.architecture) return -1
  if (a.variant === b.variant) return 0
  const [have, need] = [level(a), level(b)]
  return have !== undefined && need !== undefined && need < have ? have - need : -1
}

/** Of variants that build on each other: v5 < v6 < v7. */
function level({ architecture, variant = IMPLIED[architecture] }: Platform): number | undefined {
  const number = /^v(\d+(?:\.\d+)?)$/.exec(variant ?? '')?.[1]
  return Object.hasOwn(IMPLIED, architecture) && number !== undefined ? Number(number) : undefined
}

/**
 * The entry of an index for a platform: the exact one, else the newest older variant; of equal ones the first, as Docker.
 * Entries without a platform and attestations (`unknown/unknown`) are passed over.
 *
 * Throws PLATFORM_NOT_FOUND listing what there is.
 */
export function choosePlatform(manifests: readonly Descriptor[], wanted: Platform, subject: string): Descriptor {
  let best: Descriptor | undefined
  let bestPreference = Number.POSITIVE_INFINITY
  for (const entry of manifests) {
    if (!entry.platform || isAttestation(entry)) continue
    const rank = preference(wanted, entry.platform)
    if (rank >= 0 && rank < bestPreference) {
      best = entry
      bestPreference = rank
    }
  }
  if (best) return best
  const images = manifests.filter((entry) => !isAttestation(entry))
  // An index of one image that does not say what it is for: there is nothing to choose.
  if (images.length === 1 && !images[0]!.platform) return images[0]!
  const offered = [...new Set(images.flatMap(({ platform }) => (platform ? [formatPlatform(platform)] : [])))]
  const platform = formatPlatform(wanted)
  throw new MayflyError(
    'PLATFORM_NOT_FOUND',
    `${subject} has no image for ${platform}${offered.length > 0 ? `; it has ${offered.join(', ')}` : ''}`,
    { field: 'platform', value: platform },
  )
}

function isAttestation({ platform, annotations }: Descriptor): boolean {
  return (
    platform?.os === 'unknown' ||
    platform?.architecture === 'unknown' ||
    annotations?.['vnd.docker.reference.type'] === 'attestation-manifest'
  )
}
