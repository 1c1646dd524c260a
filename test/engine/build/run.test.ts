import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../support/world.js'
import { type BuildWorld, openWorld } from './support/world.js'

describe.skipIf(obstacle())('RUN', () => {
  let world: BuildWorld

  beforeAll(async () => {
    world = await openWorld()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  const run = (lines: string, options: object = {}) =>
    world.build({ context: { dockerfile: `FROM base\n${lines}` }, ...options })

  test('has shell form, exec form and the SHELL of the image', async () => {
    const { output } = await run(
      'RUN echo "a  b" | cat\nRUN ["echo", "$HOME"]\nSHELL ["/bin/sh", "-x", "-c"]\nRUN echo shelled',
    )
    expect(output).toBe('a  b\n$HOME\n+ echo shelled\nshelled\n')
  })

  test('runs as the USER, in the WORKDIR, with ENV', async () => {
    const { output } = await run('ENV V=1\nUSER alice\nWORKDIR /home/alice\nRUN echo $(id -u):$(id -g) $(pwd) $V $HOME')
    expect(output).toBe('1000:1000 /home/alice 1 /home/alice\n')
  })

  test('runs heredocs: for the shell, by their interpreter, and as input of programs', async () => {
    const { output } = await run(`ENV v=1
RUN <<EOF
echo first $v
echo second
EOF
RUN <<script
#!/bin/busybox sh
echo "by $0"
script
RUN cat <<a && cat <<"b"
one $v
a
two $v
b
`)
    expect(output).toBe('first 1\nsecond\nby /dev/pipes/script\none 1\ntwo $v\n')
  })

  test('keeps what was written, deleted and linked, and nothing that the start has made', async () => {
    const result = await run('RUN rm -r /mnt /etc/group && mkdir /new && ln -s x /new/l && mkdir -p /run/x')
    const files = await world.files(result)
    expect(files.mnt).toBeUndefined()
    expect(files['etc/group']).toBeUndefined()
    expect(files).toMatchObject({ new: 'd 755 0:0', 'new/l': 'l 777 0:0 x' })
    expect(
      Object.keys(files).filter((path) => /^(etc\/(hosts|hostname|resolv)|dev\/|proc\/|sys\/)/.test(path)),
    ).toEqual([])
  })

  test('a step that changes nothing makes no layer', async () => {
    const result = await run('RUN true')
    expect(result.image.layers).toHaveLength(1)
    expect(result.image.config.history!.at(-1)).toMatchObject({ empty_layer: true })
  })

  test('--mount=type=bind shows the context without what is ignored; what is written to it is lost', async () => {
    const files = { 'in/a': 'A', 'in/b': 'B', '.dockerignore': 'in/b\n' }
    const dockerfile = `FROM base
RUN --mount=type=bind,source=in,target=/m ls /m; touch /m/x 2>&1 || echo read-only
RUN --mount=type=bind,source=in,target=/m,rw touch /m/x && ls /m
RUN --mount=type=bind,source=in/a,target=/file cat /file
RUN test ! -e /m/a
`
    const result = await world.build({ context: { dockerfile, files } })
    expect(result.output).toMatch(/^a\ntouch: .*Read-only.*\nread-only\na\nx\nA$/s)
    const left = await world.files(result)
    expect([left.m, left.file]).toEqual([undefined, undefined])
  })

  test('--mount=type=bind takes from stages and images', async () => {
    const { output } = await world.build({
      context: {
        dockerfile: `FROM base AS one
RUN mkdir /d && echo from-stage > /d/f && ln -s /d /l
FROM base
RUN --mount=type=bind,from=one,source=/l,target=/m cat /m/f
RUN --mount=type=bind,from=one,target=/m,rw echo changed > /m/d/f && cat /m/d/f
RUN --mount=type=bind,from=one,target=/m cat /m/d/f
`,
      },
    })
    expect(output).toBe('from-stage\nchanged\nfrom-stage\n')
  })

  test('--mount=type=cache outlives the build and is in no layer', async () => {
    const step = (n: number) =>
      `RUN --mount=type=cache,id=one,target=/c,mode=750,uid=7,gid=8 echo ${n} >> /c/log && cat /c/log && stat -c '%a %u:%g' /c`
    expect((await run(step(1))).output).toBe('1\n750 7:8\n')
    const second = await run(step(2))
    expect(second.output).toBe('1\n2\n750 7:8\n')
    expect(await world.files(second)).not.toHaveProperty('c')
  })

  test('a mount’s target is relative to the working directory, and never the root', async () => {
    const { output } = await run(`WORKDIR /w
RUN --mount=type=cache,target=c --mount=type=tmpfs,target=./t/../u --mount=source=.,target=/abs,rw awk '$2 ~ "^/(w|abs)" { print $2 }' /proc/mounts
RUN --mount=type=tmpfs awk '$2 == "/w" { print $3 }' /proc/mounts
`)
    expect(output.trimEnd().split('\n').sort()).toEqual(['/abs', '/w/c', '/w/u', 'tmpfs'])
    for (const mount of ['type=cache', 'type=tmpfs,target=/', 'type=bind,target=..']) {
      await expect(run(`RUN --mount=${mount} true`)).rejects.toMatchObject({ code: 'DOCKERFILE_INVALID', line: 2 })
    }
  })

  test('a cache begins with what it is taken from', async () => {
    const { output } = await world.build({
      context: {
        dockerfile: `FROM base AS seed
RUN mkdir /s && echo seeded > /s/f
FROM base
RUN --mount=type=cache,id=seeded,target=/c,from=seed,source=/s cat /c/f && echo more >> /c/f
RUN --mount=type=cache,id=seeded,target=/c,from=seed,source=/s echo again && cat /c/f
`,
      },
    })
    expect(output).toBe('seeded\nagain\nseeded\nmore\n')
  })

  test('a step with a cache is made anew when what the cache begins with is another, and only then', async () => {
    const seed = world.fresh()
    const step = (from: string) => `RUN --mount=type=cache,id=begun,target=/c,from=${from},source=/s cat /c/f`
    const namedContexts = { seed }
    mkdirSync(join(seed, 's'))
    for (const content of ['one\n', 'two\n']) {
      writeFileSync(join(seed, 's/f'), content)
      expect((await run(step('seed'), { namedContexts })).output).toBe(content)
    }
    expect((await run(step('seed'), { namedContexts })).executed).toBe(0)
    const staged = (content: string, more = '') =>
      world.build({
        context: {
          dockerfile: `FROM base AS made\nRUN mkdir /s && echo ${content} > /s/f${more}; touch -d @0 /s/f /s\nFROM base\n${step('made')}`,
        },
      })
    expect((await staged('three')).output).toBe('three\n')
    expect((await staged('four')).output).toBe('four\n')
    expect(await staged('four', ' && echo another > /s2')).toMatchObject({ executed: 1, cached: 1 })
  })

  test('another source of a cache is another step', async () => {
    const step = (source: string) => `RUN --mount=type=cache,id=parts,target=/c,source=${source} cat /c/f`
    await run('RUN --mount=type=cache,id=parts,target=/c mkdir /c/a /c/b && echo a > /c/a/f && echo b > /c/b/f')
    expect((await run(step('a'))).output).toBe('a\n')
    expect((await run(step('b'))).output).toBe('b\n')
  })

  test('locked caches wait for each other, shared ones do not, and private ones are apart', async () => {
    const stages = (sharing: string) => `FROM base AS a
RUN --mount=type=cache,id=${sharing},target=/c,sharing=${sharing} test ! -e /c/in && touch /c/in && sleep 0.3 && rm /c/in && : ${sharing} && echo alone
FROM base AS b
RUN --mount=type=cache,id=${sharing},target=/c,sharing=${sharing} test ! -e /c/in && touch /c/in && sleep 0.31 && rm /c/in && : ${sharing} && echo alone
FROM base
COPY --from=a /etc/passwd /a
COPY --from=b /etc/passwd /b
`
    for (const sharing of ['locked', 'private']) {
      expect((await world.build({ context: { dockerfile: stages(sharing) } })).output).toBe('alone\nalone\n')
    }
  })

  test('--mount=type=tmpfs is empty and lost', async () => {
    const { output, image } = await run(
      'RUN --mount=type=tmpfs,target=/t,size=1m touch /t/x && df -m /t | tail -1 | tr -s " " | cut -d" " -f2',
    )
    expect(output).toBe('1\n')
    expect(image.layers).toHaveLength(1)
  })

  test('--mount=type=secret shows a file or a variable, and leaves no trace', async () => {
    const secret = 'very-secret-4711'
    const dockerfile = `RUN --mount=type=secret,id=s cat /run/secrets/s && stat -c ' %a %u:%g' /run/secrets/s
RUN --mount=type=secret,id=s,target=/x,mode=0444,uid=1,gid=2 stat -c '%a %u:%g' /x && touch /made
RUN --mount=type=secret,id=e,env=E test "$E" = "${'$'}{E}" && test -n "$E" && test ! -e /run/secrets/e
RUN --mount=type=secret,id=none test ! -e /run/secrets/none
RUN --mount=type=secret,id=binary,target=/b wc -c < /b
`
    const secrets = {
      s: { value: secret },
      e: { env: 'MAYFLY_TEST_SECRET' },
      binary: { value: new Uint8Array([0, 255, 1, 0]) },
    }
    process.env.MAYFLY_TEST_SECRET = `${secret}-env`
    const { output, image } = await run(dockerfile, { secrets })
    expect(output).toBe(`${secret} 400 0:0\n444 1:2\n4\n`)
    expect(Object.keys(await world.files({ image } as never, '/run').catch(() => ({})))).toEqual([])
    const holders = execFileSync('sh', ['-c', `grep -rl ${secret} ${world.home} || true`], { encoding: 'utf8' })
    expect(holders).toBe('')
    await expect(run('RUN --mount=type=secret,id=gone,required=true true')).rejects.toMatchObject({
      code: 'SECRET_NOT_FOUND',
      value: 'gone',
    })
  })

  test('--mount=type=ssh relays to the agent', async () => {
    const path = join(world.fresh(), 'agent')
    let heard = ''
    const server = createServer((socket) => socket.on('data', (data) => (heard += data))).listen(path)
    try {
      // logger(1) is the one applet that talks to a unix socket.
      const lines =
        'RUN --mount=type=ssh,mode=0660,gid=5,target=/dev/log stat -c "%a %u:%g" $SSH_AUTH_SOCK && logger to-the-agent'
      expect((await run(lines, { ssh: { default: path } })).output).toBe('660 0:5\n')
      await expect.poll(() => heard).toContain('to-the-agent')
    } finally {
      server.close()
    }
    await expect(run('RUN --mount=type=ssh,id=other,required=true true')).rejects.toMatchObject({
      code: 'SECRET_NOT_FOUND',
    })
  })

  test('--network=none has no network, and host must be allowed', async () => {
    expect((await run('RUN --network=none ls /sys/class/net')).output).toBe('lo\n')
    await expect(run('RUN --network=host true')).rejects.toMatchObject({ code: 'BUILD_DENIED', line: 2 })
    const { output } = await run('RUN --network=host ls /proc/self/ns/net && readlink /proc/self/ns/net', {
      allow: ['network.host'],
    })
    expect(output).toContain('net:[')
  })

  test('--security=insecure must be allowed', async () => {
    await expect(run('RUN --security=insecure true')).rejects.toMatchObject({ code: 'BUILD_DENIED' })
    const { output } = await run('RUN --security=insecure grep CapEff /proc/self/status', {
      allow: ['security.insecure'],
    })
    expect(output).not.toBe((await run('RUN grep CapEff /proc/self/status')).output)
  })

  test('addHosts, shmSizeBytes and ulimits reach the step', async () => {
    const { output } = await run(
      'RUN grep special /etc/hosts && df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2 && ulimit -n',
      {
        addHosts: { special: '10.1.2.3' },
        shmSizeBytes: 1024 * 1024,
        ulimits: { nofile: 123 },
      },
    )
    expect(output).toBe('10.1.2.3\tspecial\n1024\n123\n')
  })

  test('output comes while the step runs', async () => {
    const seen: number[] = []
    const begin = performance.now()
    await run('RUN echo early && sleep 0.4', {
      onEvent: (event: { type: string }) => event.type === 'output' && seen.push(performance.now() - begin),
    })
    expect(performance.now() - begin - seen[0]!).toBeGreaterThan(300)
  })

  test('a mount target that the step replaces by a link to a file of the host leaves that file alone (CVE-2024-23652)', async () => {
    const victim = join(world.fresh(), 'victim')
    mkdirSync(victim)
    writeFileSync(join(victim, 'precious'), '')
    await run(
      `RUN --mount=type=tmpfs,target=/stub/inner umount /stub/inner 2>/dev/null; rm -rf /stub; mkdir /stub; ln -s ${victim} /stub/inner; true`,
    ).catch(() => {})
    await run(`RUN mkdir /evil && ln -s ${victim} /evil/target\nRUN --mount=type=tmpfs,target=/evil/target true`).catch(
      () => {},
    )
    expect(readdirSync(victim)).toEqual(['precious'])
  })

  test('the source of a cache mount cannot be led out of it (CVE-2024-23651)', async () => {
    const secret = join(world.fresh(), 'secret')
    writeFileSync(secret, 'of the host')
    const { output } =
      await run(`RUN --mount=type=cache,id=escape,target=/c ln -s ${secret} /c/file && ln -s / /c/dir && ln -s ../../../../../.. /c/up
RUN --mount=type=cache,id=escape,target=/m,source=dir ls /m | head -3
RUN --mount=type=cache,id=escape,target=/m,source=up ls /m | head -4
`)
    expect(output).toBe('dir\nfile\nup\ndir\nfile\nup\n')
    await expect(run('RUN --mount=type=cache,id=escape,target=/m,source=file cat /m')).rejects.toThrow()
  })

  test('the id of a cache is no path', async () => {
    await run('RUN --mount=type=cache,id=../../../../evil,target=/c touch /c/x')
    expect(existsSync(join(world.directory, 'evil'))).toBe(false)
    for (const name of readdirSync(join(world.home, 'cache/mounts'))) expect(name).toMatch(/^[0-9a-f]{64}$/)
  })

  test('a bind source that leads out of its context or stage is not followed', async () => {
    const context = world.fresh()
    symlinkSync('/etc', join(context, 'out'))
    const bind = 'FROM base\nRUN --mount=type=bind,source=out,target=/m cat /m/shadow'
    await expect(world.build({ context: { directory: context }, dockerfile: bind })).rejects.toMatchObject({
      code: 'SOURCE_OUTSIDE',
    })
    const { output } = await world.build({
      context: {
        dockerfile:
          'FROM base AS s\nRUN ln -s / /out\nFROM base\nRUN --mount=type=bind,from=s,source=/out/etc,target=/m ls /m | tail -1',
      },
    })
    expect(output).toBe('passwd\n')
  })

  test('an interrupted build leaves no container and no half-made cache', async () => {
    const ending = new AbortController()
    const building = run('RUN --mount=type=cache,id=ab,target=/c sleep 30', {
      signal: ending.signal,
      onEvent: (event: { type: string }) =>
        event.type === 'started' && setTimeout(() => ending.abort(new Error('enough')), 100),
    })
    const begin = performance.now()
    await expect(building).rejects.toThrow('enough')
    expect(performance.now() - begin).toBeLessThan(20_000)
    expect((await run('RUN --mount=type=cache,id=ab,target=/c,sharing=locked echo free')).output).toBe('free\n')
  })
})
