/** Where packages come from: the mirror that this machine itself uses, so that it works behind a company's, else the usual one. */

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Release, SUITES } from './distribution.js'

/** One line of sources.list, or one combination of a deb822 stanza. */
export interface AptSource {
  readonly uri: string
  readonly suite: string
  readonly components: readonly string[]
  /** Path of a keyring, or '' */
  readonly signedBy: string
}

/** One archive that a release consists of. */
export interface Archive {
  readonly uri: string
  readonly suites: readonly string[]
}

const USUAL = {
  debian: { main: 'http://deb.debian.org/debian', security: 'http://deb.debian.org/debian-security' },
  ubuntu: { main: 'http://archive.ubuntu.com/ubuntu', security: 'http://archive.ubuntu.com/ubuntu' },
  ubuntuPorts: { main: 'http://ports.ubuntu.com/ubuntu-ports', security: 'http://ports.ubuntu.com/ubuntu-ports' },
} as const

/**
 * The archives of a release: the release itself with its updates, and the security updates, which Debian keeps apart.
 *
 * @param given the mirror of the release that the caller wants
 */
export function archivesOf(
  { distribution, suite }: Release,
  sources: readonly AptSource[],
  { mirror, architecture }: { readonly mirror?: string | undefined; readonly architecture: string },
): Archive[] {
  const usual = USUAL[distribution === 'ubuntu' && architecture !== 'amd64' ? 'ubuntuPorts' : distribution]
  const main = mirror ?? hostMirror(distribution, sources, '') ?? usual.main
  if (distribution === 'ubuntu') {
    const suites = [suite, `${suite}-updates`, `${suite}-backports`, `${suite}-security`]
    return [{ uri: main, suites }]
  }
  // Nothing is updated apart where everything is updated all the time.
  if (['sid', 'unstable', 'testing', 'forky'].includes(suite)) return [{ uri: main, suites: [suite] }]
  const security = hostMirror(distribution, sources, '-security') ?? usual.security
  return [
    { uri: main, suites: [suite, `${suite}-updates`] },
    { uri: security, suites: [`${suite}-security`] },
  ]
}

/** The host's mirror of a distribution's archive, whatever release the host itself has. Other people's archives use the same suite names. */
function hostMirror(
  distribution: Release['distribution'],
  sources: readonly AptSource[],
  suffix: '' | '-security',
): string | undefined {
  const wanted = SUITES[distribution].map((suite) => suite + suffix)
  const points = (source: AptSource) => {
    const hasUpdates = sources.some(({ uri, suite }) => uri === source.uri && suite === `${source.suite}-updates`)
    const isNamedSo = new RegExp(`/${distribution}${suffix}/?$`).test(source.uri)
    const isSignedSo = source.signedBy === '' || source.signedBy.includes(`${distribution}-archive-keyring`)
    return isSignedSo
      ? (hasUpdates ? 2 : 0) + (isNamedSo ? 2 : 0) + (suffix && source.uri.includes('security') ? 2 : 0)
      : 0
  }
  return sources
    .filter(
      ({ uri, suite, components }) => /^https?:/.test(uri) && wanted.includes(suite) && components.includes('main'),
    )
    .map((source) => ({ uri: source.uri, points: points(source) }))
    .filter((one) => one.points >= 2)
    .sort((a, b) => b.points - a.points)[0]?.uri
}

/** The host's package sources; none where there is no apt. What cannot be read is passed over: there is a default. */
export async function readAptSources(directory = '/etc/apt'): Promise<AptSource[]> {
  const parts = await readdir(join(directory, 'sources.list.d')).catch(() => [])
  const files = ['sources.list', ...parts.sort().map((name) => join('sources.list.d', name))]
  const sources = await Promise.all(
    files.map(async (name) => {
      const text = await readFile(join(directory, name), 'utf8').catch(() => '')
      return name.endsWith('.sources') ? parseDeb822(text) : name.endsWith('.list') ? parseLines(text) : []
    }),
  )
  return sources.flat()
}

/** `deb [signed-by=/key.gpg] http://deb.debian.org/debian bookworm main contrib` */
export function parseLines(text: string): AptSource[] {
  return text.split('\n').flatMap((line) => {
    const [, options = '', uri, suite, components = ''] =
      /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line) ?? []
    if (!uri || !suite) return []
    const signedBy = /\bsigned-by=(\S+)/i.exec(options)?.[1] ?? ''
    return [{ uri: trimmed(uri), suite, components: words(components), signedBy }]
  })
}

/** Stanzas of fields, as in debian.sources; a line that begins with a blank goes on with the field before. */
export function parseDeb822(text: string): AptSource[] {
  return text
    .replace(/^#.*\n?/gm, '')
    .split(/\n\s*\n/)
    .flatMap((stanza) => {
      const fields = new Map(
        [...stanza.matchAll(/^([\w-]+):((?:.*\n?)(?:[ \t].*\n?)*)/gm)].map(([, name = '', value = '']) => [
          name.toLowerCase(),
          value.trim(),
        ]),
      )
      const list = (name: string) => words(fields.get(name) ?? '')
      if (!list('types').includes('deb') || /^(no|false|0)$/i.test(fields.get('enabled') ?? '')) return []
      const components = list('components')
      const signedBy = fields.get('signed-by') ?? ''
      return list('uris').flatMap((uri) =>
        list('suites').map((suite) => ({ uri: trimmed(uri), suite, components, signedBy })),
      )
    })
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}

function trimmed(uri: string): string {
  return uri.replace(/\/+$/, '')
}
