/** Which distribution and release an image's name means: `debian:bookworm-slim`, `debian:12`, `ubuntu:24.04`. */

import { MayflyError } from '../errors.js'
import { DOCKER_HUB, familiarReference, parseReference } from '../image/reference.js'

export interface Release {
  readonly distribution: 'debian' | 'ubuntu'
  /** The archive's directory below `dists/`: a codename, or a name that moves on, such as `stable`. */
  readonly suite: string
  /** Without documentation, manual pages and translations. */
  readonly isSlim: boolean
}

/** Version → codename. Newest first. */
const DEBIAN: Readonly<Record<string, string>> = { 13: 'trixie', 12: 'bookworm', 11: 'bullseye' }
const UBUNTU: Readonly<Record<string, string>> = {
  '26.04': 'resolute',
  '25.10': 'questing',
  '24.04': 'noble',
  '22.04': 'jammy',
}
/** Names of Debian's that move on; they are suites of the archive themselves. */
const MOVING = ['stable', 'oldstable', 'testing', 'unstable']
const CODENAMES = [...Object.values(DEBIAN), 'forky', 'sid']

/** Suites of the archive's that the host's sources may name, for telling its mirror. */
export const SUITES = { debian: [...CODENAMES, ...MOVING], ubuntu: Object.values(UBUNTU) } as const

/**
 * The release that a reference of Docker Hub's official images means; a tag may have `-slim` (Debian), and be a codename, a version
 * or `latest`.
 *
 * Throws INVALID_OPTION for everything that is no release of Debian or Ubuntu.
 */
export function releaseOf(reference: string): Release {
  const parsed = parseReference(reference)
  const { registry, repository, tag = '', digest } = parsed
  if (registry === DOCKER_HUB && digest === undefined) {
    if (repository === 'library/debian') {
      const name = tag.replace(/-slim$/, '')
      const suite = debianSuite(name)
      if (suite) return { distribution: 'debian', suite, isSlim: name !== tag }
    }
    if (repository === 'library/ubuntu') {
      const name = tag === 'latest' ? '26.04' : tag
      const isCodename = Object.values(UBUNTU).includes(name)
      const suite = isCodename ? name : Object.hasOwn(UBUNTU, name) ? UBUNTU[name] : undefined
      if (suite) return { distribution: 'ubuntu', suite, isSlim: false }
    }
  }
  throw new MayflyError('INVALID_OPTION', `Cannot make ${familiarReference(parsed)}: no such release is known`, {
    field: 'reference',
    value: reference,
    hint: `known are debian:{${[...CODENAMES, ...MOVING].join(',')}}, the same with -slim, and ubuntu:{${Object.keys(UBUNTU).join(',')}}`,
  })
}

function debianSuite(name: string): string | undefined {
  if (name === 'latest') return DEBIAN[13]
  if (CODENAMES.includes(name) || MOVING.includes(name)) return name
  // 12.5 is 12 at another time; the archive has the last one only.
  const [, version = ''] = /^(\d+)(?:\.\d+)?$/.exec(name) ?? []
  return Object.hasOwn(DEBIAN, version) ? DEBIAN[version] : undefined
}
