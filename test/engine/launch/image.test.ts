import { describe, expect, it } from 'vitest'
import { MayflyError } from '../../../src/engine/errors.js'
import type { RuntimeConfig } from '../../../src/engine/image/config.js'
import { ALL_CAPABILITIES } from '../../../src/engine/launch/capabilities.js'
import type { SessionFacts } from '../../../src/engine/launch/facts.js'
import { type ImageFacts, imageDefaults, imageFault, runtimeConfig } from '../../../src/engine/launch/image.js'
import { planLaunch } from '../../../src/engine/launch/plan.js'
import { checkContainer, validateContainer } from '../../../src/engine/launch/validate.js'
import type { ContainerOptions } from '../../../src/engine/options.js'

const FACTS: SessionFacts = {
  arch: 'x64',
  kernel: '6.18.0',
  cpus: 1,
  capabilities: ALL_CAPABILITIES,
  kernelCapabilities: ALL_CAPABILITIES,
  limitsSwap: false,
  rootless: false,
  cgroups: 'v2',
  hostname: 'laptop',
  hosts: '',
  resolvConf: '',
  hostDevices: () => [],
  container: (reference) => {
    throw new MayflyError('NO_SUCH_CONTAINER', reference)
  },
  network: (reference) => {
    throw new MayflyError('NO_SUCH_NETWORK', reference)
  },
  volumes: '/store/volumes',
}

const ID = `sha256:${'a'.repeat(64)}`

function found(config: RuntimeConfig): ImageFacts {
  return {
    reference: 'app',
    id: ID,
    config: { architecture: 'amd64', os: 'linux', config, rootfs: { type: 'layers', diff_ids: [] } },
    defaults: imageDefaults({ config }),
    layers: ['/layers/base', '/layers/top'],
  }
}

function merge(config: RuntimeConfig, options: Partial<ContainerOptions> = {}) {
  return validateContainer({ image: 'app', ...options }, found(config))
}

function refusal(options: unknown, config?: RuntimeConfig): MayflyError {
  try {
    validateContainer(options, config && found(config))
  } catch (error) {
    expect(error).toBeInstanceOf(MayflyError)
    return error as MayflyError
  }
  throw new Error('nothing was refused')
}

const PROGRAM: RuntimeConfig = { Entrypoint: ['/entry', '-v'], Cmd: ['serve', '--port', '80'] }

describe('the command', () => {
  it.each<[string, Partial<ContainerOptions>, string[]]>([
    ['is entrypoint and command of the image', {}, ['/entry', '-v', 'serve', '--port', '80']],
    ['has the command replaced', { command: ['sh'] }, ['/entry', '-v', 'sh']],
    ['loses the command of the image with its entrypoint', { entrypoint: ['/bin/sh'] }, ['/bin/sh']],
    ['has both replaced', { entrypoint: ['/bin/sh'], command: ['-c', 'ls'] }, ['/bin/sh', '-c', 'ls']],
    ['does without the entrypoint of the image', { entrypoint: [], command: ['ls'] }, ['ls']],
    ['takes an empty command for none', { command: [] }, ['/entry', '-v', 'serve', '--port', '80']],
    [
      'takes undefined for none',
      { command: undefined, entrypoint: undefined },
      ['/entry', '-v', 'serve', '--port', '80'],
    ],
  ] as never)('%s', (_name, options, expected) => {
    expect(merge(PROGRAM, options).command).toEqual(expected)
  })

  it('is asked for when neither the image nor the caller has one', () => {
    expect(refusal({ image: 'app' }, {})).toMatchObject({
      code: 'INVALID_OPTION',
      field: 'command',
      message: 'command: image "app" has no command of its own: say what to run',
    })
    expect(refusal({ image: 'app', entrypoint: [] }, PROGRAM)).toMatchObject({ field: 'command' })
    expect(merge({ Cmd: null, Entrypoint: null }, { command: ['ls'] }).command).toEqual(['ls'])
  })

  it('may have an entrypoint without an image, too', () => {
    const { command, entrypoint } = validateContainer({
      rootfs: { directory: '/' },
      entrypoint: ['sh'],
      command: ['-c', 'ls'],
    })
    expect(command).toEqual(['sh', '-c', 'ls'])
    expect(entrypoint).toEqual(['sh'])
  })
})

describe('what the image says', () => {
  const config: RuntimeConfig = {
    ...PROGRAM,
    User: 'app:staff',
    WorkingDir: '/srv/app',
    StopSignal: 'SIGINT',
    Env: ['PATH=/app/bin:/bin', 'MODE=production', 'EQUATION=a=b', 'NOTHING', '=x'],
    Labels: { a: 'image', b: 'image' },
    ExposedPorts: { '5432/tcp': {}, '53/udp': {} },
    Volumes: { '/data/': {}, '/': {}, relative: {} },
    Healthcheck: { Test: ['CMD', 'true'], Interval: 1e9 },
  }

  it('is taken where the caller says nothing', () => {
    expect(merge(config)).toMatchObject({
      image: { reference: 'app', id: ID, config: { config } },
      rootfs: { layers: ['/layers/base', '/layers/top'] },
      user: 'app:staff',
      workdir: '/srv/app',
      createWorkdir: true,
      stopSignal: 2,
      env: { PATH: '/app/bin:/bin', MODE: 'production', EQUATION: 'a=b' },
      labels: { a: 'image', b: 'image' },
      exposedPorts: [
        { port: 53, protocol: 'udp' },
        { port: 5432, protocol: 'tcp' },
      ],
      volumes: ['/data', '/relative'],
    })
    expect(Object.keys(merge(config).env)).toEqual(['PATH', 'MODE', 'EQUATION'])
  })

  it('gives way to what the caller says, variables and labels by name', () => {
    const options = {
      user: '1000',
      workdir: '/tmp',
      createWorkdir: false,
      stopSignal: 'SIGTERM',
      env: { MODE: 'test', EXTRA: '1' },
      labels: { b: 'mine' },
      exposedPorts: [80, '53/udp'],
    }
    expect(merge(config, options)).toMatchObject({
      user: '1000',
      workdir: '/tmp',
      createWorkdir: false,
      stopSignal: 15,
      env: { PATH: '/app/bin:/bin', MODE: 'test', EQUATION: 'a=b', EXTRA: '1' },
      labels: { a: 'image', b: 'mine' },
      exposedPorts: [
        { port: 53, protocol: 'udp' },
        { port: 80, protocol: 'tcp' },
        { port: 5432, protocol: 'tcp' },
      ],
    })
  })

  it('is, put together with the options, the config of a new image', () => {
    const merged = runtimeConfig(merge(config, { command: ['other'], env: { MODE: 'test' }, user: '7' }))
    expect(merged).toEqual({
      ...config,
      Cmd: ['other'],
      User: '7',
      Env: ['PATH=/app/bin:/bin', 'MODE=test', 'EQUATION=a=b'],
      ExposedPorts: { '53/udp': {}, '5432/tcp': {} },
    })
    expect(runtimeConfig(merge(PROGRAM, { entrypoint: ['sh'] }))).toEqual({ Entrypoint: ['sh'], Env: [] })
  })

  it('is blamed on the image when it is wrong', () => {
    const error = refusal({ image: 'app' }, { Cmd: ['x'], User: 'a:b:c' })
    expect(imageFault('app', error, { image: 'app' })).toMatchObject({
      code: 'IMAGE_INVALID',
      field: 'config.User',
      message: `Image "app" cannot be run: config.User: expected 'user' or 'user:group', got "a:b:c"`,
    })
  })

  it('does not hide what is wrong with the options', () => {
    expect(refusal({ image: 'app', env: 'A=b' }, config)).toMatchObject({ field: 'env' })
    expect(refusal({ image: 'app', labels: ['x'] }, config)).toMatchObject({ field: 'labels' })
    expect(refusal({ image: 'app', exposedPorts: '80' }, config)).toMatchObject({ field: 'exposedPorts' })
    expect(refusal({ image: 'app', command: 'ls' }, config)).toMatchObject({ field: 'command' })
  })
})

describe('image and root file system', () => {
  it('exclude each other, and one is needed', () => {
    expect(refusal({ image: 'app', rootfs: { directory: '/' } })).toMatchObject({
      code: 'INVALID_OPTION',
      field: 'image',
    })
    expect(refusal({ command: ['ls'] })).toMatchObject({ code: 'INVALID_OPTION', field: 'rootfs' })
  })

  it('keep pull and platform for images', () => {
    const rootfs = { directory: '/' }
    expect(refusal({ rootfs, command: ['ls'], pull: 'never' })).toMatchObject({ field: 'pull' })
    expect(refusal({ rootfs, command: ['ls'], platform: 'linux/arm64' })).toMatchObject({ field: 'platform' })
    expect(refusal({ image: 'app', pull: 'sometimes' })).toMatchObject({ field: 'pull' })
    expect(refusal({ image: 'app', platform: 'linux/arm64/v8/x' })).toMatchObject({ field: 'platform' })
    expect(refusal({ image: '' })).toMatchObject({ field: 'image' })
  })

  it('let options be checked before the image is known', () => {
    expect(() => checkContainer({ image: 'app' })).not.toThrow()
    expect(() => checkContainer({ image: 'app', entrypoint: [], user: 'me' })).not.toThrow()
    expect(() => checkContainer({ image: 'app', volums: [] })).toThrow('volums: there is no such option')
  })
})

describe('exposed ports', () => {
  it('are numbers, ranges and protocols', () => {
    const { exposedPorts } = merge(PROGRAM, { exposedPorts: ['8000-8002', '8001/tcp', 53, '53/UDP'] })
    expect(exposedPorts.map(({ port, protocol }) => `${port}/${protocol}`)).toEqual([
      '53/tcp',
      '53/udp',
      '8000/tcp',
      '8001/tcp',
      '8002/tcp',
    ])
  })

  it.each([0, 65_536, '80/http', '9-8', 'http', 1.5])('refuse %s', (port) => {
    expect(refusal({ image: 'app', exposedPorts: [port] }, PROGRAM)).toMatchObject({ field: 'exposedPorts[0]' })
  })
})

describe('volumes of the image', () => {
  const volumes = (options: Partial<ContainerOptions>) => {
    const complete = merge({ ...PROGRAM, Volumes: { '/data': {}, '/data/deep': {}, '/srv/x': {} } }, options)
    const { words } = planLaunch(complete, FACTS, { id: 'b'.repeat(64), name: 'x', layers: ['/layers/base'] })
    return words.flatMap((word, index) => (word === 'volume' && words[index - 1] === 'mount' ? [words[index + 2]] : []))
  }

  it('are made after what they lie in', () => {
    expect(volumes({})).toEqual(['/data', '/data/deep', '/srv/x'])
  })

  it('are left to the caller who mounts something there, and are not made in directories of the host', () => {
    expect(volumes({ mounts: [{ type: 'bind', source: '/srv', target: '/data' }] })).toEqual(['/srv/x'])
    expect(volumes({ mounts: [{ type: 'tmpfs', target: '/srv' }] })).toEqual(['/data', '/data/deep', '/srv/x'])
  })
})
