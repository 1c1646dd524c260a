/** A web server in a container, and a test that talks to it. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Container, Engine } from 'mayfly'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeRootfsTar, whyNoBusybox } from './busybox.js'

const why = whyNoBusybox()
if (why) console.log(`skipped: the Vitest example, because ${why}`)

describe.skipIf(why)('a web server', () => {
  const directory = mkdtempSync(join(tmpdir(), 'mayfly-example-'))
  let engine: Engine
  let server: Container

  beforeAll(async () => {
    const tar = join(directory, 'rootfs.tar')
    makeRootfsTar(tar)
    engine = await Engine.open()
    server = await engine.start({
      rootfs: { tar },
      command: ['sh', '-c', 'mkdir /www && echo hello > /www/index.html && exec httpd -f -p 80 -h /www'],
      ports: [80],
    })
    await server.waitForPort(80)
  })

  afterAll(async () => {
    await engine?.close()
    rmSync(directory, { recursive: true, force: true })
  })

  test('answers on the published port', async () => {
    const answer = await fetch(`http://127.0.0.1:${server.port(80)}/`)
    expect(await answer.text()).toBe('hello\n')
  })

  test('can be looked into', async () => {
    const { exitCode, stdout } = await server.exec(['cat', '/www/index.html'])
    expect([exitCode, stdout]).toEqual([0, 'hello\n'])
  })

  test('is alone in its world', async () => {
    const { stdout } = await server.exec(['sh', '-c', 'ps | grep -c httpd; hostname'])
    expect(stdout).toContain(server.id.slice(0, 12))
    expect(execFileSync('hostname', { encoding: 'utf8' })).not.toContain(server.id.slice(0, 12))
  })
})
