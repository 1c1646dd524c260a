import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../support/world.js'
import { type BuildWorld, openWorld } from './support/world.js'

describe.skipIf(obstacle())('instructions', () => {
  let world: BuildWorld

  beforeAll(async () => {
    world = await openWorld()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const config = async (dockerfile: string) => (await world.build({ context: { dockerfile } })).image.config

  test('set the config of the image', async () => {
    const { config: made, author } = await config(`FROM base
MAINTAINER somebody
ENV A=1 B="two words"
ENV C=$A-$B
LABEL one=1 "with space"=$A
EXPOSE 80 53/udp 7000-7001
VOLUME /data ["/x"]
VOLUME ["/a b", "/c"]
USER alice
WORKDIR /srv
WORKDIR sub
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD test -f /ok
SHELL ["/bin/busybox", "sh", "-c"]
CMD echo hi
ENTRYPOINT ["/bin/entry"]
ONBUILD RUN echo later
`)
    expect(author).toBe('somebody')
    expect(made).toMatchObject({
      Env: [expect.stringMatching(/^PATH=/), 'A=1', 'B=two words', 'C=1-two words'],
      Labels: { one: '1', 'with space': '1' },
      ExposedPorts: { '80/tcp': {}, '53/udp': {}, '7000/tcp': {}, '7001/tcp': {} },
      User: 'alice',
      WorkingDir: '/srv/sub',
      StopSignal: 'SIGINT',
      Healthcheck: { Test: ['CMD-SHELL', 'test -f /ok'], Interval: 5e9, Retries: 2 },
      Shell: ['/bin/busybox', 'sh', '-c'],
      Cmd: ['/bin/busybox', 'sh', '-c', 'echo hi'],
      Entrypoint: ['/bin/entry'],
      OnBuild: ['RUN echo later'],
    })
    expect(made!.Volumes).toMatchObject({ '/a b': {}, '/c': {} })
  })

  test('ENTRYPOINT drops the command of the base, but not one of its own stage', async () => {
    const inherited = await config('FROM base\nENTRYPOINT ["/x"]')
    expect(inherited.config!.Cmd).toBeUndefined()
    const own = await config('FROM base\nCMD ["a"]\nENTRYPOINT ["/x"]')
    expect(own.config!.Cmd).toEqual(['a'])
  })

  test('HEALTHCHECK NONE is kept as such', async () => {
    expect((await config('FROM base\nHEALTHCHECK NONE')).config!.Healthcheck).toEqual({ Test: ['NONE'] })
  })

  test('FROM scratch without a step makes an image without layers, the same one each time', async () => {
    const options = { context: { dockerfile: 'FROM scratch\nLABEL a=b' } }
    const first = await world.build(options)
    const second = await world.build(options)
    expect(first.image.layers).toEqual([])
    expect(first.image.config.config).toMatchObject({ WorkingDir: '/', Labels: { a: 'b' } })
    expect(second.image.id).toBe(first.image.id)
  })

  test('WORKDIR makes what is missing, owned by the user, and no layer where it exists', async () => {
    const result = await world.build({
      context: { dockerfile: 'FROM base\nUSER alice\nWORKDIR /w/deep\nWORKDIR /tmp\n' },
    })
    expect(await world.files(result, '/w')).toEqual({ deep: 'd 755 1000:1000' })
    expect(result.image.layers).toHaveLength(2)
    const history = result.image.config.history!
    expect(history.at(-2)).toMatchObject({ created_by: 'WORKDIR /w/deep' })
    expect(history.at(-2)!.empty_layer).toBeUndefined()
    expect(history.at(-1)).toMatchObject({ created_by: 'WORKDIR /tmp', empty_layer: true })
  })

  test('ARG before FROM is for FROM, and for a stage that names it again', async () => {
    const result = await world.build({
      context: {
        dockerfile: `ARG image=base
ARG version=3
FROM $image
ARG version
ARG other=\${version}x
RUN echo "[$image][$version][$other]"
`,
      },
    })
    expect(result.output).toBe('[][3][3x]\n')
  })

  test('of an ENV and an ARG the later one holds, and --build-arg beats the default of an ARG', async () => {
    const dockerfile = `FROM base AS one
ARG a=1
ARG b=1
ENV b=env
ENV c=env
ARG c=arg
ENV d=env
ARG d
RUN echo $a $b $c $d
ENV e=$c c=again
RUN echo $c $e
FROM one
RUN echo $c
ARG c=arg
RUN echo $c
`
    const result = await world.build({ context: { dockerfile }, buildArgs: { a: '2', b: '2', c: '2' } })
    expect(result.output).toBe('2 env 2 env\nagain 2\nagain\n2\n')
    expect(result.image.config.config!.Env).toEqual([expect.any(String), 'b=env', 'c=again', 'd=env', 'e=2'])
  })

  test('a USER or WORKDIR that is empty once its variables are replaced is root, and the one before', async () => {
    const dockerfile = 'FROM base\nUSER alice\nUSER $nobody\nWORKDIR /tmp\nWORKDIR $nowhere\nRUN echo $(id -u) $(pwd)'
    const { output, image } = await world.build({ context: { dockerfile } })
    expect(output).toBe('0 /tmp\n')
    expect(image.config.config).toMatchObject({ User: '', WorkingDir: '/tmp' })
  })

  test('a USER may be a group alone, or lack it behind the colon', async () => {
    const dockerfile = `FROM base
USER :2000
RUN id -u; id -g; id -G
WORKDIR /w
USER alice:
RUN id -u; id -g
WORKDIR /v
`
    const result = await world.build({ context: { dockerfile } })
    expect(result.output.split('\n')).toEqual(['0', '2000', '2000', '1000', '1000', ''])
    expect(await world.files(result)).toMatchObject({ w: 'd 755 0:2000', v: 'd 755 1000:1000' })
  })

  test('arguments go on into a stage that is based on another', async () => {
    const dockerfile = 'FROM base AS one\nARG a=1\nFROM one\nRUN echo $a'
    expect((await world.build({ context: { dockerfile }, buildArgs: { a: '5' } })).output).toBe('5\n')
  })

  test('a proxy reaches RUN without an ARG, and is in neither history nor key', async () => {
    const dockerfile = 'FROM base\nRUN echo "proxy $HTTP_PROXY"'
    const first = await world.build({ context: { dockerfile }, buildArgs: { HTTP_PROXY: 'http://one:1' } })
    expect(first.output).toBe('proxy http://one:1\n')
    expect(JSON.stringify(first.image.config)).not.toContain('http://one:1')
    const second = await world.build({ context: { dockerfile }, buildArgs: { HTTP_PROXY: 'http://two:2' } })
    expect(second).toMatchObject({ executed: 0, cached: 1 })
    const both = { context: { dockerfile: 'FROM base\nRUN echo $no_proxy $https_proxy $HTTPS_PROXY' } }
    const buildArgs = { NO_PROXY: 'here', https_proxy: 'http://lower:1', HTTPS_PROXY: 'http://upper:1' }
    expect((await world.build({ ...both, buildArgs })).output).toBe('here http://lower:1 http://upper:1\n')
  })

  test('platform arguments are known after an ARG of their name', async () => {
    const { output } = await world.build({
      context: { dockerfile: 'FROM base\nARG TARGETARCH\nRUN echo $TARGETARCH-$TARGETOS' },
    })
    expect(output).toBe(`${process.arch === 'x64' ? 'amd64' : 'arm64'}-\n`)
  })

  test('an unused build argument is a warning', async () => {
    const { warnings } = await world.build({ context: { dockerfile: 'FROM base' }, buildArgs: { nobody: '1' } })
    expect(warnings).toEqual(['No ARG declares the build argument nobody'])
  })

  test('ONBUILD triggers of a base run first in the image that is based on it, once', async () => {
    await world.build({
      context: { dockerfile: 'FROM base\nONBUILD COPY in.txt /in.txt\nONBUILD ENV T=$X\nONBUILD RUN cat /in.txt' },
      tags: ['trigger'],
    })
    const child = await world.build({
      context: { dockerfile: 'FROM trigger\nRUN echo own', files: { 'in.txt': 'from the child\n' } },
      tags: ['child'],
    })
    expect(child.output).toBe('from the child\nown\n')
    expect(child.image.config.config!.OnBuild).toBeUndefined()
    expect((await world.build({ context: { dockerfile: 'FROM child' } })).output).toBe('')
  })

  test('SOURCE_DATE_EPOCH is the time of everything', async () => {
    const options = {
      context: { dockerfile: 'FROM base\nRUN echo epoch > /e\nLABEL x=1' },
      buildArgs: { SOURCE_DATE_EPOCH: '1700000000' },
    }
    const { image } = await world.build(options)
    const time = '2023-11-14T22:13:20.000Z'
    expect(image.config.created).toBe(time)
    expect(image.config.history!.slice(1).map(({ created }) => created)).toEqual([time, time])
  })

  test('labels of the caller are added', async () => {
    const { image } = await world.build({
      context: { dockerfile: 'FROM base\nLABEL a=1 b=1' },
      labels: { b: '2', c: '3' },
    })
    expect(image.config.config!.Labels).toEqual({ a: '1', b: '2', c: '3' })
  })

  test('the image has its tags', async () => {
    const { image } = await world.build({
      context: { dockerfile: 'FROM base\nLABEL t=1' },
      tags: ['app:1', 'host:5000/app'],
    })
    expect([...image.references].sort()).toEqual(['docker.io/library/app:1', 'host:5000/app:latest'])
  })
})
