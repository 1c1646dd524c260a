import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { chainIds, parseManifest } from '../../../src/engine/image/manifest.js'
import {
  DOCKER_INDEX,
  DOCKER_MANIFEST,
  isImageConfig,
  layerCompression,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER_GZIP,
  OCI_MANIFEST,
} from '../../../src/engine/image/media-types.js'

const digest = (digit: string) => `sha256:${digit.repeat(64)}`
const CONFIG = { mediaType: OCI_CONFIG, digest: digest('c'), size: 100 }
const LAYER = { mediaType: OCI_LAYER_GZIP, digest: digest('1'), size: 200 }
const MANIFEST = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: CONFIG, layers: [LAYER] }
const INDEX = {
  schemaVersion: 2,
  mediaType: OCI_INDEX,
  manifests: [
    { mediaType: OCI_MANIFEST, digest: digest('5'), size: 5, platform: { os: 'linux', architecture: 'amd64' } },
  ],
}
const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))

describe('a manifest', () => {
  test('has a config and layers', () => {
    expect(parseManifest(bytes(MANIFEST))).toEqual({
      kind: 'manifest',
      mediaType: OCI_MANIFEST,
      config: CONFIG,
      layers: [LAYER],
    })
  })

  test('gets its type from whoever tells it', () => {
    const { mediaType: _, ...untyped } = MANIFEST
    expect(parseManifest(bytes(untyped)).mediaType).toBe(OCI_MANIFEST)
    expect(parseManifest(bytes(untyped), `${DOCKER_MANIFEST}; charset=utf-8`).mediaType).toBe(DOCKER_MANIFEST)
    expect(parseManifest(bytes({ ...untyped, mediaType: DOCKER_MANIFEST }), 'application/json').mediaType).toBe(
      DOCKER_MANIFEST,
    )
  })

  test('may have no layers at all', () => {
    expect(parseManifest(bytes({ ...MANIFEST, layers: [] }))).toMatchObject({ layers: [] })
    expect(parseManifest(bytes({ ...MANIFEST, layers: null }))).toMatchObject({ layers: [] })
  })

  test.each([
    ['a page of HTML', 'manifest', '\n<html><body>Please sign in</body></html>', /HTML.*Please sign in/s],
    ['half of it', 'manifest', JSON.stringify(MANIFEST).slice(0, 90), /no JSON/],
    ['nothing', 'manifest', '', /no JSON/],
    ['both layers and manifests', 'manifests', { ...MANIFEST, ...INDEX, mediaType: undefined }, /two ways/],
    ['an index with a config', 'manifests', { ...INDEX, config: CONFIG }, /two ways/],
    ['the type of an index', 'mediaType', { ...MANIFEST, mediaType: DOCKER_INDEX }, /fields of an manifest/],
    ['a schema version of 3', 'schemaVersion', { ...MANIFEST, schemaVersion: 3 }, /must be 2, not 3/],
    ['no schema version', 'schemaVersion', {}, /missing/],
    ['no config', 'config', { ...MANIFEST, config: undefined }, /config must be an object/],
    [
      'a path as digest',
      'layers[0].digest',
      { ...MANIFEST, layers: [{ ...LAYER, digest: 'sha256:../../../etc/passwd' }] },
      /hexadecimal/,
    ],
    [
      'a short digest',
      'config.digest',
      { ...MANIFEST, config: { ...CONFIG, digest: 'sha256:abc' } },
      /64 hexadecimal digits/,
    ],
    [
      'upper case in a digest',
      'config.digest',
      { ...MANIFEST, config: { ...CONFIG, digest: digest('C') } },
      /lower case/,
    ],
    [
      'an unknown algorithm',
      'config.digest',
      { ...MANIFEST, config: { ...CONFIG, digest: `crc:${'0'.repeat(64)}` } },
      /algorithm/,
    ],
    [
      '__proto__ as algorithm',
      'config.digest',
      { ...MANIFEST, config: { ...CONFIG, digest: '__proto__:00' } },
      /algorithm/,
    ],
    ['a negative size', 'layers[0].size', { ...MANIFEST, layers: [{ ...LAYER, size: -1 }] }, /number of bytes/],
    ['a size in words', 'layers[0].size', { ...MANIFEST, layers: [{ ...LAYER, size: '200' }] }, /number of bytes/],
    ['a huge config', 'config.size', { ...MANIFEST, config: { ...CONFIG, size: 9e6 } }, /9000000 bytes/],
    ['layers in an object', 'layers', { ...MANIFEST, layers: {} }, /a list/],
    ['an index of texts', 'manifests[0]', { ...INDEX, manifests: ['x'] }, /an object/],
    [
      'a platform without os',
      'manifests[0].platform.os',
      { ...INDEX, manifests: [{ ...INDEX.manifests[0], platform: {} }] },
      /missing/,
    ],
  ])('is refused with %s, and the field is named', (_what, field, value, message) => {
    expect(() => parseManifest(bytes(value))).toThrow(
      expect.objectContaining({ code: 'IMAGE_INVALID', field, message: expect.stringMatching(message) }),
    )
  })

  test('is refused when it was announced as something else', () => {
    expect(() => parseManifest(bytes(MANIFEST), OCI_INDEX)).toThrow(expect.objectContaining({ code: 'IMAGE_INVALID' }))
    expect(() => parseManifest(bytes(MANIFEST), DOCKER_MANIFEST)).toThrow(/announced as/)
  })

  test('is refused above 4 MiB', () => {
    expect(() => parseManifest(Buffer.alloc(4 * 1024 * 1024 + 1, ' '))).toThrow(
      expect.objectContaining({ code: 'IMAGE_INVALID', message: expect.stringContaining('at most 4194304') }),
    )
  })

  test.each([
    ['schema 1', { schemaVersion: 1, fsLayers: [] }, undefined],
    [
      'signed schema 1',
      { ...MANIFEST, mediaType: undefined },
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    ],
    ['another kind of document', { ...MANIFEST, mediaType: 'application/vnd.example+json' }, undefined],
  ])('of %s is not supported', (_what, value, type) => {
    expect(() => parseManifest(bytes(value), type)).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED' }))
  })

  test('with a foreign layer is not supported, and the layer is named without the address', () => {
    const urls = ['https://user:secret@mcr.example/layer?token=secret']
    const read = () => parseManifest(bytes({ ...MANIFEST, layers: [LAYER, { ...LAYER, digest: digest('2'), urls }] }))
    expect(read).toThrow(
      expect.objectContaining({ code: 'NOT_SUPPORTED', field: 'layers[1].urls', value: digest('2') }),
    )
    expect(read).toThrow(/mcr\.example/)
    expect(read).not.toThrow(/secret/)
  })
})

test('an index lists manifests and their platforms', () => {
  expect(parseManifest(bytes(INDEX))).toEqual({ kind: 'index', mediaType: OCI_INDEX, manifests: INDEX.manifests })
})

test('compression is told by the media type, and what is no layer is refused', () => {
  const of = (mediaType: string) => layerCompression({ ...LAYER, mediaType })
  expect(of(OCI_LAYER_GZIP)).toBe('gzip')
  expect(of('application/vnd.oci.image.layer.v1.tar+zstd')).toBe('zstd')
  expect(of('application/vnd.docker.image.rootfs.diff.tar.gzip')).toBe('gzip')
  expect(() => of('application/vnd.in-toto+json')).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED' }))
  expect(() => of('toString')).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED' }))
  expect(isImageConfig('application/vnd.cncf.helm.config.v1+json')).toBe(false)
})

test('a chainID is computed from the one below and the diffID', () => {
  const [a, b, c] = [digest('a'), digest('b'), digest('c')]
  const hash = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`
  const second = hash(`${a} ${b}`)
  expect(chainIds([a, b, c])).toEqual([a, second, hash(`${second} ${c}`)])
  expect(chainIds([])).toEqual([])
})
