import { mkdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { GenericContainer, TestContainers, Wait } from '../../src/index.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

const why = obstacle()
if (why) console.warn(`skipped: containers are not possible here: ${why}`)

describe.skipIf(why)('images', () => {
  const opened = libraryWorld()

  test('are built from a Dockerfile in memory', async () => {
    const lines: string[] = []
    const image = await GenericContainer.fromDockerfile({
      dockerfile: `FROM ${IMAGE}\nARG NAME=nobody\nCOPY greeting.txt /\nRUN echo "$NAME" >> /greeting.txt\nCMD ["cat", "/greeting.txt"]`,
      files: { 'greeting.txt': 'hello ' },
    })
      .withBuildArgs({ NAME: 'you' })
      .withLogConsumer((line) => lines.push(line))
      .build()
    await using container = await image.withWaitStrategy(Wait.forOneShotStartup()).start()
    expect(await container.stdout()).toBe('hello you\n')
    expect(lines.join('\n')).toMatch(/RUN echo/)
  })

  test('are built from a directory, one stage of several, under a name', async () => {
    const context = join(opened.world.directory, 'context')
    mkdirSync(context)
    writeFileSync(
      join(context, 'Test.Dockerfile'),
      `FROM ${IMAGE} AS first\nCMD ["echo", "first"]\nFROM first\nCMD ["echo", "last"]\n`,
    )
    const builder = GenericContainer.fromDockerfile(context, 'Test.Dockerfile')
    const first = await builder.withTarget('first').build('built:first')
    await using container = await first.withWaitStrategy(Wait.forOneShotStartup()).start()
    expect(await container.stdout()).toBe('first\n')
    await using byName = await new GenericContainer('built:first').withWaitStrategy(Wait.forOneShotStartup()).start()
    expect(byName.getId()).not.toBe(container.getId())
  })

  test('that cannot be built reject with the step and its output', async () => {
    const broken = GenericContainer.fromDockerfile({ dockerfile: `FROM ${IMAGE}\nRUN echo went wrong; exit 7` })
    await expect(broken.build()).rejects.toThrow(/went wrong/)
    const wrong = GenericContainer.fromDockerfile({ dockerfile: `FROM ${IMAGE}\nRUNN true` })
    await expect(wrong.build()).rejects.toMatchObject({ code: 'DOCKERFILE_INVALID', line: 2 })
  })

  test('have their ports, health check, user and variables in force', async () => {
    const image = await GenericContainer.fromDockerfile({
      dockerfile: `FROM ${IMAGE}
USER alice
ENV COLOUR=green
HEALTHCHECK --interval=50ms --retries=100 CMD test -f /tmp/well
CMD ["sh", "-c", "sleep 0.2; touch /tmp/well; exec sleep 600"]`,
    }).build()
    await using container = await image.start()
    expect(container.getHealth()).toBe('healthy')
    expect((await container.exec(['sh', '-c', 'id -un; echo $COLOUR'])).output).toBe('alice\ngreen\n')
  })

  test('are made of what a container has written', async () => {
    await using container = await new GenericContainer(IMAGE).withCommand(['sleep', '600']).start()
    await container.exec(['sh', '-c', 'echo kept > /kept'])
    const id = await container.commit({ repo: 'committed', tag: '1', changes: ['ENV A=b', 'CMD ["cat", "/kept"]'] })
    expect(id).toMatch(/^sha256:/)
    await using again = await new GenericContainer('committed:1').withWaitStrategy(Wait.forOneShotStartup()).start()
    expect(await again.stdout()).toBe('kept\n')
    await using byId = await new GenericContainer(id).withWaitStrategy(Wait.forOneShotStartup()).start()
    expect((await byId.inspect()).exit?.exitCode).toBe(0)
  })
})

describe.skipIf(why)('ports of the host', () => {
  const opened = libraryWorld()

  /** A server on the host's loopback alone. */
  async function serve(host: string): Promise<{ port: number; close: () => void }> {
    const server = createServer((socket) => socket.end('from the host\n'))
    await new Promise<void>((resolve) => server.listen(0, host, resolve))
    return { port: (server.address() as { port: number }).port, close: () => server.close() }
  }

  test.each(['127.0.0.1', '::1'])(
    'are reached by containers on %s once they are exposed, and no others',
    async (host) => {
      const exposed = await serve(host)
      const hidden = await serve(host)
      try {
        await using container = await new GenericContainer(IMAGE)
          .withCommand(['sleep', '600'])
          .withHostPortAccess(exposed.port)
          .start()
        const ask = (port: number) => container.exec(['sh', '-c', `nc -w 2 host.mayfly.internal ${port} < /dev/null`])
        expect((await ask(exposed.port)).output).toBe('from the host\n')
        expect((await ask(hidden.port)).output).not.toContain('from the host')
        await TestContainers.exposeHostPorts(hidden.port, exposed.port)
        expect((await ask(hidden.port)).output).toBe('from the host\n')
      } finally {
        exposed.close()
        hidden.close()
      }
    },
  )

  test('are not opened for anybody but containers', async () => {
    const { port, close } = await serve('127.0.0.1')
    try {
      await TestContainers.exposeHostPorts(port)
      const { gateway, isHostReachable } = opened.engine.info
      if (!isHostReachable) return
      const text = await new Promise<string>((resolve) => {
        let received = ''
        connect(port, gateway)
          .on('data', (piece) => {
            received += piece
          })
          .on('error', () => {})
          .on('close', () => resolve(received))
      })
      expect(text).toBe('')
    } finally {
      close()
    }
  })

  test('of a dead server are refused quickly', async () => {
    const { port, close } = await serve('127.0.0.1')
    close()
    await using container = await new GenericContainer(IMAGE)
      .withCommand(['sleep', '600'])
      .withHostPortAccess(port)
      .start()
    const { exitCode } = await container.exec([
      'wget',
      '-T',
      '5',
      '-qO-',
      `http://host.testcontainers.internal:${port}/`,
    ])
    expect(exitCode).not.toBe(0)
  })
})
