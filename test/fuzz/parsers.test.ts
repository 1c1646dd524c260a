/** Every parser of text that strangers write: whatever comes, it gives a value or one of our errors, soon. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseSecret } from '../../src/cli/build-flags.ts'
import { parseEnvironmentFile, parseVariable } from '../../src/cli/environment.ts'
import { parseMount, parseTmpfs, parseVolume, splitFields } from '../../src/cli/mount.ts'
import { parseHost, parseUlimit } from '../../src/cli/notation.ts'
import { matchesPattern } from '../../src/cli/pattern.ts'
import { parsePort } from '../../src/cli/port.ts'
import { parseNumber, parseSize, parseSizeOrUnlimited } from '../../src/cli/size.ts'
import { compileTemplate } from '../../src/cli/template.ts'
import { UsageError } from '../../src/cli/usage-error.ts'
import { expand, expandWords } from '../../src/engine/build/dockerfile/expand.ts'
import { parseMode } from '../../src/engine/build/dockerfile/mode.ts'
import { parseDockerfile, parseInstructions } from '../../src/engine/build/dockerfile/parse.ts'
import { parseDuration, parseOwner, parsePorts } from '../../src/engine/build/dockerfile/values.ts'
import { IgnorePatterns, matchGlob, parseIgnoreFile } from '../../src/engine/build/ignore.ts'
import { MayflyError } from '../../src/engine/errors.ts'
import { parseConfig } from '../../src/engine/image/config.ts'
import { parseManifest } from '../../src/engine/image/manifest.ts'
import { choosePlatform, hostPlatform, parsePlatform } from '../../src/engine/image/platform.ts'
import { parseReference } from '../../src/engine/image/reference.ts'
import { parseSignal } from '../../src/engine/launch/signal.ts'
import { parseChallenges } from '../../src/engine/registry/challenge.ts'
import { retryAfter } from '../../src/engine/registry/transport.ts'
import { ImageName } from '../../src/image-name.ts'
import { parsePort as parseExposedPort } from '../../src/ports.ts'
import { ResourceWaitStrategy, toHostPorts } from '../../src/wait/resource.ts'
import { changed, readCorpus } from './corpus.ts'

/** A call may take so long, however long the text is; three times in a row counts, since others use this machine too. */
const MOST_MS = 500
const LONG = 64 * 1024
const RUNS = Number(process.env.MAYFLY_FUZZ_RUNS ?? 600)
const NAME = 4096

interface Parser {
  readonly parse: (text: string) => unknown
  /** Pieces that its notation is made of. */
  readonly pieces: readonly string[]
  /** Inputs to begin with (corpus.ts). */
  readonly corpus?: string
  /** Characters that can reach it: a header, a file, an argument or a name. @default 64 KiB */
  readonly most?: number
}

const target = {
  exposedPorts: [{ container: 80, protocol: 'tcp' }],
  getHost: () => 'localhost',
  getMappedPort: () => 1234,
} as unknown as Parameters<typeof toHostPorts>[1]

const DOCKERFILE =
  'FROM a\n|FROM |RUN |COPY |ADD |ENV |ARG |LABEL |EXPOSE |ONBUILD |HEALTHCHECK |CMD |SHELL |VOLUME |USER |WORKDIR |STOPSIGNAL |\n|\\\n|\r\n|\t| |<<EOF|EOF|<<-"X Y"|--mount=|type=cache,|target=/x|--from=|--|["a"]|[1]|[|"|\'|$|${a|:-|}|#|# escape=`\n|=|,|80|/udp|a|é|\0|{'
const WORDS = '${a|${a:-|${a#|${a//|$|}|{|"|\'|\\|*|?|/| |a|b|%|:+'

const parsers: Readonly<Record<string, Parser>> = {
  Dockerfile: {
    parse: (text) => parseDockerfile(text),
    corpus: 'dockerfiles',
    pieces: DOCKERFILE.split('|'),
    most: LONG / 4,
  },
  'instructions of --change': {
    parse: (text) => parseInstructions(text, '--change'),
    corpus: 'dockerfiles',
    pieces: DOCKERFILE.split('|'),
    most: LONG / 4,
  },
  'words with variables': {
    parse: (text) => expand(text, new Map([['a', 'aaaa']])),
    corpus: 'words-with-variables',
    pieces: WORDS.split('|'),
    most: NAME,
  },
  'words that are split': {
    parse: (text) => expandWords(text, new Map([['a', 'a b']])),
    corpus: 'words-with-variables',
    pieces: WORDS.split('|'),
    most: NAME,
  },
  durations: {
    parse: (text) => parseDuration(text),
    corpus: 'durations',
    pieces: ['1', 'h', 'ms', '.', '-', 'µs', '9'.repeat(30)],
  },
  owners: { parse: (text) => parseOwner(text), pieces: ['a', ':', '0', '-1', '4294967296', ' '] },
  'exposed ports of a Dockerfile': {
    parse: (text) => parsePorts(text),
    pieces: ['80', '-', '/', 'tcp', 'udp', ' ', '0'],
  },
  modes: {
    parse: (text) => parseMode(text),
    pieces: ['u', 'g', 'o', 'a', '+', '-', '=', 'r', 'w', 'X', ',', '7', '0'],
  },
  '.dockerignore': {
    parse: (text) => new IgnorePatterns(parseIgnoreFile(text)).excludes('a/b/c/a/b/c.md'),
    corpus: 'dockerignore',
    pieces: ['**', '*', '/', '!', 'a', '?', '[', ']', '^', '-', '\\', '\n', '#', '.', '..', '\ufeff'],
    most: NAME,
  },
  'patterns of COPY': {
    parse: (text) => matchGlob(text, 'a/'.repeat(50)),
    corpus: 'dockerignore',
    pieces: ['*', 'a', '/', '?', '[', ']', '^', '-', '\\'],
    most: NAME,
  },
  references: {
    parse: (text) => parseReference(text),
    corpus: 'references',
    pieces: ['a', '.', ':', '/', '@', 'sha256:', '-', '_', '__', 'A', '5000', '[::1]', '..'],
  },
  'names of images in parts': {
    parse: (text) => ImageName.fromString(text),
    corpus: 'references',
    pieces: ['a', '/', ':', '@', '.'],
  },
  platforms: { parse: (text) => parsePlatform(text), pieces: ['linux', '/', 'amd64', 'arm', 'v7', '.'] },
  manifests: {
    parse: (text) => parseManifest(Buffer.from(text)),
    corpus: 'manifests',
    pieces: ['{', '}', '[', ']', '"layers"', ':', ',', '"a"', '1'],
  },
  configs: {
    parse: (text) => parseConfig(Buffer.from(text)),
    corpus: 'configs',
    pieces: ['{', '}', '[', ']', '"rootfs"', ':', ',', '"a"', '1'],
  },
  challenges: {
    parse: (text) => parseChallenges(text),
    corpus: 'challenges',
    pieces: ['Bearer', 'Basic', ' ', '=', '"', '\\', ',', 'realm', '__proto__', '\t'],
  },
  'Retry-After': { parse: (text) => retryAfter(text), pieces: ['1', '9', ' ', '-', 'Mon', ',', ':', 'GMT'] },
  signals: { parse: (text) => parseSignal(text), pieces: ['SIG', 'RTMIN', '+', '-', '1', 'TERM'] },
  'resources of wait-on': {
    parse: (text) => new ResourceWaitStrategy(text as never) && toHostPorts(text, target),
    pieces: ['tcp:', 'http-get:', 'https:', '//', 'localhost', '[::1]', ':', '80', '/', '?', 'file:', '$&'],
  },
  '--publish': {
    parse: parsePort,
    corpus: 'ports-of-publish',
    pieces: ['80', ':', '-', '/', 'tcp', '127.0.0.1', '[', ']', '::', '1-65535'],
  },
  withExposedPorts: {
    parse: (text) => parseExposedPort(text, 'ports'),
    corpus: 'ports-of-publish',
    pieces: ['80', '/', 'udp', '-', ':'],
  },
  '--volume': { parse: (text) => parseVolume(text, '/'), pieces: ['/a', ':', 'ro', ',', 'z', '.', 'name', 'nocopy'] },
  '--mount': {
    parse: (text) => parseMount(text, '/'),
    corpus: 'mounts',
    pieces: [
      'type=',
      'bind',
      'tmpfs',
      'volume',
      ',',
      'source=',
      'target=/a',
      '"',
      '""',
      'tmpfs-mode=',
      '9',
      '__proto__',
      'readonly=',
    ],
  },
  'fields of --mount': { parse: splitFields, corpus: 'mounts', pieces: ['"', '""', ',', 'a'] },
  '--tmpfs': { parse: parseTmpfs, pieces: ['/a', ':', 'size=1m', ','] },
  '--add-host': { parse: parseHost, pieces: ['a', ':', '=', '[', ']', '::1', '\n'] },
  '--ulimit': { parse: parseUlimit, pieces: ['nofile', '=', ':', '1', '-1', 'unlimited'] },
  '--memory': {
    parse: (text) => [parseSize('--memory', text), parseSizeOrUnlimited('--memory', text)],
    pieces: ['1', '.', 'k', 'iB', '-', 'e'],
  },
  '--cpus': { parse: (text) => parseNumber('--cpus', text, { fraction: true }), pieces: ['1', '.', '-', 'e', '0x'] },
  '--env': { parse: (text) => parseVariable('--env', text, {}), pieces: ['A', '=', ' ', '\n', '\0'] },
  '--env-file': {
    parse: (text) => parseEnvironmentFile('file', text, {}),
    pieces: ['A', '=', '#', '\n', '\r', ' ', '\0'],
  },
  '--secret': { parse: (text) => parseSecret(text, {}), pieces: ['id=', 'src=', 'env=', 'type=', ',', '"', 'a'] },
  '--filter': {
    parse: (text) => matchesPattern(text, 'a'.repeat(255)),
    pieces: ['*', 'a', '?', '[', ']', '^', '-', '\\', '/', '|', '(', '+'],
    most: NAME,
  },
  '--format': {
    parse: (text) => compileTemplate('--format', text)({ Name: 'a', List: [1], Map: { a: 1 } }),
    corpus: 'templates',
    pieces: ['{{', '}}', '.Name', '.List', 'json ', 'index ', 'len ', ' ', '0', '"', '\\', '\n', '.', '-'],
  },
}

/** What the parser threw that it must not; and how long it took. */
function check(parse: (text: string) => unknown, text: string): { thrown?: unknown; ms: number } {
  const begin = performance.now()
  try {
    parse(text)
  } catch (error) {
    if (!(error instanceof MayflyError || error instanceof UsageError))
      return { thrown: error, ms: performance.now() - begin }
  }
  return { ms: performance.now() - begin }
}

describe.each(Object.entries(parsers))('%s', (_name, { parse, pieces, corpus, most = LONG }) => {
  test('end in a value or in an error of ours', () => {
    const text = fc.oneof(
      fc.array(fc.constantFrom(...pieces), { maxLength: 24 }).map((all) => all.join('')),
      fc
        .array(fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: 'binary', maxLength: 3 })), { maxLength: 12 })
        .map((all) => all.join('')),
      fc.string({ unit: 'binary' }),
    )
    fc.assert(
      fc.property(text, (one) => {
        const { thrown } = check(parse, one)
        if (thrown) throw thrown
      }),
      { numRuns: RUNS },
    )
  })

  const seen = corpus ? readCorpus(corpus) : []
  if (corpus)
    test('end so too where they begin with something that was seen once', () => {
      for (const one of seen) expect(check(parse, one).thrown, JSON.stringify(one)).toBeUndefined()
      fc.assert(
        fc.property(changed(seen, pieces), (one) => {
          const { thrown } = check(parse, one)
          if (thrown) throw thrown
        }),
        { numRuns: RUNS },
      )
    })

  test('are read in bounded time, however long they are', () => {
    const seconds = ['', ...pieces.slice(0, Math.max(1, 6 - pieces.length / 4))]
    for (const first of pieces)
      for (const second of seconds) {
        const unit = first + second
        for (const end of ['', '\0', '!'] as const) {
          const text = unit.repeat(Math.ceil(most / unit.length)).slice(0, most) + end
          let took = { ms: 0 } as ReturnType<typeof check>
          for (let attempt = 0; attempt < 3; attempt++) {
            took = check(parse, text)
            if (took.ms < MOST_MS) break
          }
          if (took.thrown) throw took.thrown
          expect(took.ms, `${JSON.stringify(unit)} again and again, then ${JSON.stringify(end)}`).toBeLessThan(MOST_MS)
          if (took.ms > MOST_MS / 10) break
        }
      }
  })
})

describe('what was found once', () => {
  test.each<[what: string, parser: keyof typeof parsers, text: string]>([
    ['a duration without a unit took the square of its length', 'durations', '1'.repeat(LONG)],
    ['a number with something after it took the square of its length', '--cpus', `${'1'.repeat(LONG)}x`],
    ['a template of opening braces took the square of its length', '--format', '{{'.repeat(LONG)],
    ['a backslash in the key of a template was a SyntaxError', '--format', String.raw`{{index .Map "\"}}`],
    ['an array where a resource belongs was a TypeError', 'resources of wait-on', ['tcp:80'] as never],
    ['each star of a filter multiplied its time', '--filter', `${'*a'.repeat(40)}b`],
  ])('%s', (_what, parser, text) => {
    const { thrown, ms } = check(parsers[parser]!.parse, text)
    expect(thrown).toBeUndefined()
    expect(ms).toBeLessThan(MOST_MS)
  })
})

const DIGEST = `sha256:${'a'.repeat(64)}`
/** Fields that mean something, with values that are right, nearly right and wrong. */
const value: fc.Arbitrary<unknown> = fc.letrec((again) => ({
  any: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom(null, true, 0, -1, 1e300, 2, '', 'linux', 'amd64', DIGEST, 'sha256:../../x', 'a\0b', {}, []),
    fc.string(),
    fc.array(again('any'), { maxLength: 3 }),
    fc.dictionary(
      fc.constantFrom(
        ...'schemaVersion mediaType config layers manifests digest size platform os architecture variant rootfs diff_ids type history annotations urls Env Cmd Labels ExposedPorts Volumes User Healthcheck __proto__ constructor'.split(
          ' ',
        ),
      ),
      again('any'),
      { maxKeys: 6 },
    ),
  ),
})).any
const descriptor = fc.record(
  {
    mediaType: fc.constantFrom(
      'application/vnd.oci.image.layer.v1.tar+gzip',
      'application/vnd.oci.image.manifest.v1+json',
      'x',
    ),
    digest: fc.oneof(fc.constant(DIGEST), value),
    size: fc.oneof(fc.nat(), value),
    platform: value,
    annotations: value,
    urls: value,
  },
  { requiredKeys: [] },
)

describe('documents of registries', () => {
  const document = fc.oneof(
    value,
    fc.record(
      {
        schemaVersion: fc.constantFrom(2, 2, 2, 1, '2'),
        mediaType: fc.oneof(fc.constant('application/vnd.oci.image.manifest.v1+json'), value),
        config: fc.oneof(descriptor, value),
        layers: fc.oneof(fc.array(descriptor, { maxLength: 3 }), value),
        manifests: fc.oneof(fc.array(descriptor, { maxLength: 3 }), value),
      },
      { requiredKeys: ['schemaVersion'] },
    ),
    fc.record(
      {
        architecture: fc.oneof(fc.constant('amd64'), value),
        os: fc.oneof(fc.constant('linux'), value),
        config: value,
        rootfs: fc.oneof(fc.constant({ type: 'layers', diff_ids: [DIGEST] }), value),
        history: value,
        created: value,
      },
      { requiredKeys: [] },
    ),
  )

  test('are read or refused, and what is read has digests that are digests', () => {
    fc.assert(
      fc.property(document, fc.option(fc.string(), { nil: undefined }), (content, mediaType) => {
        const bytes = Buffer.from(JSON.stringify(content) ?? '')
        try {
          const read = parseManifest(bytes, mediaType)
          const all = read.kind === 'index' ? read.manifests : [read.config, ...read.layers]
          for (const { digest } of all) expect(digest).toMatch(/^sha(256|512):[0-9a-f]+$/)
          if (read.kind === 'index') choosePlatform(read.manifests, hostPlatform(), 'x')
        } catch (error) {
          expect(error).toBeInstanceOf(MayflyError)
        }
        try {
          for (const id of parseConfig(bytes).rootfs.diff_ids) expect(id).toMatch(/^sha(256|512):[0-9a-f]+$/)
        } catch (error) {
          expect(error).toBeInstanceOf(MayflyError)
        }
      }),
      { numRuns: Number(process.env.MAYFLY_FUZZ_RUNS ?? 2_000) },
    )
  })
})
