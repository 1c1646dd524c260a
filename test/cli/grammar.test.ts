/** Docker's notations, as the flags of `mayfly run` take them. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseEnvironmentFile, parseVariable } from '../../src/cli/environment.js'
import { parseMount, parseTmpfs, parseVolume } from '../../src/cli/mount.js'
import { parsePort } from '../../src/cli/port.js'
import { parseNumber, parseSize, parseSizeOrUnlimited } from '../../src/cli/size.js'
import { UsageError } from '../../src/cli/usage-error.js'

describe('sizes', () => {
  test.each([
    ['1048576', 1048576],
    ['64m', 64 * 1024 ** 2],
    ['64M', 64 * 1024 ** 2],
    ['1g', 1024 ** 3],
    ['1.5GiB', 1.5 * 1024 ** 3],
    ['512kb', 512 * 1024],
    ['7b', 7],
    ['0', 0],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseSize('--memory', text)).toBe(bytes)
  })

  test.each(['', 'm', '-1', '1x', '64 mm', '0x10', '1e3', 'NaN', '99999999999999p'])(
    'refuses "%s" and names the flag',
    (text) => {
      expect(() => parseSize('--memory', text)).toThrow(UsageError)
      expect(() => parseSize('--memory', text)).toThrow(`--memory must be a size such as 64m or 1g, not "${text}"`)
    },
  )

  test('knows -1 as unlimited where that is meant', () => {
    expect(parseSizeOrUnlimited('--memory-swap', '-1')).toBe(-1)
    expect(parseSizeOrUnlimited('--memory-swap', '1g')).toBe(1024 ** 3)
  })

  test('takes fractions only where they are meant', () => {
    expect(parseNumber('--cpus', '.5', { fraction: true })).toBe(0.5)
    expect(parseNumber('--pids-limit', '-1')).toBe(-1)
    expect(() => parseNumber('--pids-limit', '1.5')).toThrow('--pids-limit must be a whole number, not "1.5"')
    expect(() => parseNumber('--cpus', 'two', { fraction: true })).toThrow('--cpus must be a number, not "two"')
  })
})

describe('ports', () => {
  test.each([
    ['80', [{ container: 80, protocol: 'tcp' }]],
    ['8080:80', [{ container: 80, host: 8080, protocol: 'tcp' }]],
    ['8080:80/udp', [{ container: 80, host: 8080, protocol: 'udp' }]],
    ['127.0.0.1:8080:80', [{ container: 80, host: 8080, hostIp: '127.0.0.1', protocol: 'tcp' }]],
    ['127.0.0.1::80', [{ container: 80, hostIp: '127.0.0.1', protocol: 'tcp' }]],
    ['0:80', [{ container: 80, protocol: 'tcp' }]],
    ['127.0.0.1:0:80', [{ container: 80, hostIp: '127.0.0.1', protocol: 'tcp' }]],
    ['[::1]:8080:80', [{ container: 80, host: 8080, hostIp: '::1', protocol: 'tcp' }]],
    ['[::1]::53/udp', [{ container: 53, hostIp: '::1', protocol: 'udp' }]],
    [
      '8000-8001:80-81',
      [
        { container: 80, host: 8000, protocol: 'tcp' },
        { container: 81, host: 8001, protocol: 'tcp' },
      ],
    ],
    [
      '80-81',
      [
        { container: 80, protocol: 'tcp' },
        { container: 81, protocol: 'tcp' },
      ],
    ],
  ])('understands %s', (text, ports) => {
    expect(parsePort(text)).toEqual(ports)
  })

  test.each([
    ['', 'not a port'],
    ['0', '"0" is not a port from 1 to 65535'],
    ['65536', '"65536" is not a port from 1 to 65535'],
    ['80/sctp', 'the protocol must be tcp or udp'],
    ['80/tcp/udp', 'the protocol must be tcp or udp'],
    ['8000-8002:80-81', '3 host ports cannot lead to 2 container ports'],
    ['82-80', 'the range 82-80 ends before it begins'],
    ['http', '"http" is not a port from 1 to 65535'],
    ['8080:', 'not a port'],
  ])('refuses "%s": %s', (text, why) => {
    expect(() => parsePort(text)).toThrow(`--publish "${text}": ${why}`)
  })

  test('fails with a usage error or not at all', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9a-z:.[\]/-]{0,24}$/), (text) => {
        try {
          for (const { container } of parsePort(text)) expect(container).toBeGreaterThan(0)
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError)
        }
      }),
    )
  })
})

describe('mounts', () => {
  test('a volume is a bind mount, relative to the working directory if it begins with a dot', () => {
    const made = { createSource: true }
    expect(parseVolume('/a:/b')).toEqual({ type: 'bind', source: '/a', target: '/b', ...made })
    expect(parseVolume('/a:/b:ro')).toEqual({ type: 'bind', source: '/a', target: '/b', readonly: true, ...made })
    expect(parseVolume('./a:/b:rw,z', '/work')).toEqual({ type: 'bind', source: '/work/a', target: '/b', ...made })
    expect(parseVolume('/a:/b:ro,rslave')).toEqual({
      type: 'bind',
      source: '/a',
      target: '/b',
      readonly: true,
      propagation: 'rslave',
      ...made,
    })
    expect(parseVolume('/a:/b:')).toEqual({ type: 'bind', source: '/a', target: '/b', ...made })
    expect(parseVolume('/b')).toEqual({ type: 'volume', target: '/b' })
    expect(parseVolume('data:/b')).toEqual({ type: 'volume', source: 'data', target: '/b' })
    expect(parseVolume('data:/b:ro,nocopy')).toEqual({
      type: 'volume',
      source: 'data',
      target: '/b',
      readonly: true,
      noCopy: true,
    })
  })

  test.each([
    ['data:/b:rslave', 'unknown option "rslave"'],
    [':/b', 'expected [source:]container-path[:options]'],
    ['/a:b', 'the container path "b" must be absolute'],
    ['/a:/b:shared', 'unknown option "shared"'],
    ['/a:/b:ro:x', 'expected [source:]container-path[:options]'],
    ['a:/b:ro,rw', 'either ro or rw'],
    ['a:/b:ro,ro', 'ro twice'],
    ['a:/b:z,Z', 'either z or Z'],
    ['/a:/b:rslave,private', 'either rslave or private'],
    ['/a:/b:cached,delegated', 'either cached or delegated'],
    ['/a:/b:ro,', 'unknown option ""'],
    ['/a:', 'expected [source:]container-path[:options]'],
    ['a/b:/c', '"a/b" is no name of a volume'],
  ])('refuses --volume %s: %s', (text, why) => {
    expect(() => parseVolume(text)).toThrow(why)
  })

  test('--mount takes the fields of docker and their other names', () => {
    expect(parseMount('type=bind,src=/a,dst=/b,readonly')).toEqual({
      type: 'bind',
      source: '/a',
      target: '/b',
      readonly: true,
    })
    expect(parseMount('type=bind,source=/a,destination=/b,ro=true,bind-propagation=rslave')).toEqual({
      type: 'bind',
      source: '/a',
      target: '/b',
      readonly: true,
      propagation: 'rslave',
    })
    expect(parseMount('"source=/a,b",type=bind,target=/b')).toEqual({ type: 'bind', source: '/a,b', target: '/b' })
    expect(parseMount('type=BIND,source=/a,target=/b,consistency=cached')).toEqual({
      type: 'bind',
      source: '/a',
      target: '/b',
    })
    expect(parseMount('type=tmpfs,target=/t,readonly')).toEqual({ type: 'tmpfs', target: '/t', options: ['ro'] })
    expect(parseMount('target=/v')).toEqual({ type: 'volume', target: '/v' })
    expect(parseMount('type=volume,src=data,dst=/v,ro,volume-nocopy=true,volume-subpath=a/b')).toEqual({
      type: 'volume',
      source: 'data',
      target: '/v',
      readonly: true,
      noCopy: true,
      subpath: 'a/b',
    })
    for (const value of ['1', 't', 'T', 'TRUE', 'True', 'true']) {
      expect(parseMount(`target=/v,source=data,readonly=${value}`)).toMatchObject({ readonly: true })
    }
    for (const value of ['0', 'f', 'F', 'FALSE', 'False', 'false']) {
      expect(parseMount(`target=/v,source=data,readonly=${value}`)).not.toHaveProperty('readonly')
    }
    expect(parseMount('source=data,target=/v,volume-driver=,volume-label=a=b=c,volume-label=d')).toEqual({
      type: 'volume',
      source: 'data',
      target: '/v',
      labels: { a: 'b=c', d: '' },
    })
    const bound = { type: 'bind', source: '/a', target: '/b' }
    expect(parseMount('type=bind,source=/a,target=/b,bind-propagation=RSLAVE,bind-create-src')).toEqual({
      ...bound,
      propagation: 'rslave',
      createSource: true,
    })
    expect(parseMount('type=bind,source=/a,target=/b,bind-nonrecursive')).toEqual({ ...bound, recursive: false })
    expect(parseMount('type=bind,source=/a,target=/b,bind-recursive=disabled')).toEqual({ ...bound, recursive: false })
    expect(parseMount('type=bind,source=/a,target=/b,bind-nonrecursive=0,bind-recursive=enabled')).toEqual(bound)
    expect(parseMount('type=tmpfs,target=/t,tmpfs-size=0')).toEqual({ type: 'tmpfs', target: '/t' })
    expect(parseMount('type=image,source=alpine:3,target=/i,image-subpath=etc')).toEqual({
      type: 'image',
      source: 'alpine:3',
      target: '/i',
      subpath: 'etc',
    })
    expect(parseMount('type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770')).toEqual({
      type: 'tmpfs',
      target: '/t',
      sizeBytes: 1024 ** 2,
      mode: 0o1770,
    })
  })

  test.each([
    ['type=npipe,source=x,target=/b', 'type npipe is not known; bind, image, tmpfs, volume are'],
    ['type=volume,source=x,target=/b,volume-driver=nfs', 'there is no volume driver "nfs" here'],
    ['type=image,target=/b', 'source is missing'],
    ['type=bind,source=/a,target=/b,readonly=maybe', 'readonly must be true or false'],
    ['type=bind,target=/b', 'source is missing'],
    ['type=bind,source=/a', 'target must be an absolute path'],
    ['type=bind,source=/a,target=/b,colour=red', 'unknown field "colour"'],
    ['type=tmpfs,target=/t,tmpfs-mode=9', 'tmpfs-mode must be octal'],
    ['type=volume,source=x,target=/b,volume-opt=type=nfs', 'volume-opt is not available'],
    ['type=bind,source=/a,target=/b,volume-label=a=b', 'unknown field "volume-label"'],
    ['source=x,target=/b,', 'a field is empty'],
    ['source=x,,target=/b', 'a field is empty'],
    ['type=bind,source=/a,target=/b,bind-recursive=writable', 'bind-recursive must be one of enabled'],
    ['type=tmpfs,target=/t,tmpfs-size=', 'tmpfs-size must be a size'],
  ])('refuses --mount %s: %s', (text, why) => {
    expect(() => parseMount(text)).toThrow(why)
  })

  test('--tmpfs is a path with options', () => {
    expect(parseTmpfs('/run')).toEqual(['/run', ''])
    expect(parseTmpfs('/run:rw,size=64m')).toEqual(['/run', 'rw,size=64m'])
    expect(() => parseTmpfs('run')).toThrow('must be absolute')
  })
})

describe('environment', () => {
  test('a name alone passes the caller’s value on, or nothing', () => {
    expect(parseVariable('--env', 'A=b=c', {})).toEqual(['A', 'b=c'])
    expect(parseVariable('--env', 'A=', {})).toEqual(['A', ''])
    expect(parseVariable('--env', 'A', { A: 'mine' })).toEqual(['A', 'mine'])
    expect(parseVariable('--env', 'A', {})).toBeUndefined()
    expect(() => parseVariable('--env', '=x', {})).toThrow('--env "=x": the name is missing')
  })

  test('an env file keeps quotes and inner white space, and skips comments', () => {
    const text = '\uFEFF# comment\nA=1\r\n\n  B="two words" # not a comment\nC\nD\n'
    expect(parseEnvironmentFile('file', text, { C: 'mine' })).toEqual([
      ['A', '1'],
      ['B', '"two words" # not a comment'],
      ['C', 'mine'],
    ])
  })

  test('an env file with white space in a name is refused', () => {
    expect(() => parseEnvironmentFile('file', 'A B=1', {})).toThrow('--env-file file: the variable name in "A B=1"')
  })
})
