import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeConfig, type ImageConfig, parseConfig } from '../../../src/engine/image/config.js'

const DIFF = `sha256:${'a'.repeat(64)}`
const BASE = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [DIFF] } }
const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))

describe('an image config', () => {
  test('is read with everything it says', () => {
    const config = {
      ...BASE,
      variant: 'v8',
      created: '2024-01-02T03:04:05.123456789Z',
      config: {
        User: 'postgres',
        Env: ['PATH=/bin'],
        Entrypoint: ['docker-entrypoint.sh'],
        Cmd: ['postgres'],
        ExposedPorts: { '5432/tcp': {} },
        Volumes: { '/var/lib/postgresql/data': {} },
        Labels: { a: 'b' },
        Healthcheck: { Test: ['CMD', 'true'], Interval: 1e9 },
        OnBuild: ['RUN true'],
      },
      history: [
        { created_by: 'ADD x', empty_layer: false },
        { created_by: 'CMD', empty_layer: true },
      ],
    }
    expect(parseConfig(bytes(config))).toEqual(config)
  })

  test('keeps fields that we do not know, everywhere', () => {
    const config = {
      ...BASE,
      'moby.buildkit.cache.v0': 'x',
      'os.version': '10',
      config: { Hostname: 'h', Healthcheck: { Unknown: 1 } },
      history: [{ extra: true }],
      rootfs: { ...BASE.rootfs, base: 'x' },
    }
    expect(parseConfig(bytes(config))).toEqual(config)
    expect(parseConfig(encodeConfig(parseConfig(bytes(config))))).toEqual(config)
  })

  test('takes null, as Go writes it, for what is not set', () => {
    const nothing = { Env: null, Cmd: null, Entrypoint: null, Labels: null, ExposedPorts: null, OnBuild: null }
    const parsed = parseConfig(
      bytes({ ...BASE, config: nothing, history: null, rootfs: { type: 'layers', diff_ids: null } }),
    )
    expect(parsed).toEqual({ ...BASE, config: {}, rootfs: { type: 'layers', diff_ids: [] } })
  })

  test.each([
    ['no JSON', 'image config', 'not {'],
    ['a page', 'image config', '<!DOCTYPE html><html>Sign in</html>'],
    ['a list', 'image config', []],
    ['no rootfs', 'rootfs', { architecture: 'amd64', os: 'linux' }],
    ['another rootfs', 'rootfs.type', { ...BASE, rootfs: { type: 'bundle', diff_ids: [] } }],
    [
      'a path as diff id',
      'rootfs.diff_ids[1]',
      { ...BASE, rootfs: { type: 'layers', diff_ids: [DIFF, 'sha256:../../x'] } },
    ],
    ['no architecture', 'architecture', { os: 'linux', rootfs: BASE.rootfs }],
    ['a number as os', 'os', { ...BASE, os: 1 }],
    ['an Env that is an object', 'config.Env', { ...BASE, config: { Env: { A: 'b' } } }],
    ['a Cmd of numbers', 'config.Cmd', { ...BASE, config: { Cmd: [1] } }],
    ['a User that is a number', 'config.User', { ...BASE, config: { User: 0 } }],
    ['ports in a list', 'config.ExposedPorts', { ...BASE, config: { ExposedPorts: ['80'] } }],
    ['labels of numbers', 'config.Labels', { ...BASE, config: { Labels: { a: 1 } } }],
    ['half an interval', 'config.Healthcheck.Interval', { ...BASE, config: { Healthcheck: { Interval: 0.5 } } }],
    ['history of texts', 'history[0]', { ...BASE, history: ['x'] }],
    ['history with numbers', 'history[0].created_by', { ...BASE, history: [{ created_by: 1 }] }],
  ])('is refused with %s, and the field is named', (_what, field, value) => {
    expect(() => parseConfig(bytes(value))).toThrow(
      expect.objectContaining({ code: 'IMAGE_INVALID', field, message: expect.stringContaining(field) }),
    )
  })

  test('is refused above 8 MiB without being parsed', () => {
    expect(() => parseConfig(Buffer.alloc(8 * 1024 * 1024 + 1, ' '))).toThrow(/8388609 bytes; at most 8388608/)
  })

  test('is refused when it is no UTF-8', () => {
    expect(() => parseConfig(Buffer.from([0x7b, 0xff, 0x7d]))).toThrow(/no UTF-8/)
  })

  test('has the same bytes in whatever order its fields were set', () => {
    const shuffled = (config: object): object =>
      Object.fromEntries(
        Object.entries(config)
          .reverse()
          .map(([key, value]) => [
            key,
            value && typeof value === 'object' && !Array.isArray(value) ? shuffled(value) : value,
          ]),
      )
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.string()),
        fc.dictionary(fc.string(), fc.jsonValue()),
        (Labels, more) => {
          const config = { ...more, ...BASE, config: { Labels, Cmd: ['a'] } } as unknown as ImageConfig
          expect(encodeConfig(shuffled(config) as ImageConfig).equals(encodeConfig(config))).toBe(true)
        },
      ),
    )
  })

  test('keeps a label called __proto__', () => {
    const text = `{"architecture":"amd64","config":{"Labels":{"__proto__":"x"}},"os":"linux","rootfs":{"diff_ids":[],"type":"layers"}}`
    expect(encodeConfig(parseConfig(bytes(text))).toString()).toBe(text)
  })
})
