// The same with node's own test runner, in plain JavaScript: node --test examples/engine/echo.mjs
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Engine, MayflyError } from 'mayfly'

const BUSYBOX = '/bin/busybox'
const skip = existsSync(BUSYBOX) ? false : 'there is no static busybox: apt-get install busybox-static'

const directory = mkdtempSync(join(tmpdir(), 'mayfly-example-'))
const tar = join(directory, 'rootfs.tar')
let engine

before(async () => {
  if (skip) return
  const rootfs = join(directory, 'rootfs')
  mkdirSync(join(rootfs, 'bin'), { recursive: true })
  execFileSync('cp', [BUSYBOX, join(rootfs, 'bin/busybox')])
  execFileSync('tar', ['-C', rootfs, '-cf', tar, '.'])
  engine = await Engine.open()
})

after(async () => {
  await engine?.close()
  rmSync(directory, { recursive: true })
})

test('a server says what it hears', { skip }, async () => {
  const server = await engine.start({
    rootfs: { tar },
    command: ['/bin/busybox', 'nc', '-l', '-p', '7', '-e', '/bin/busybox', 'cat'],
    ports: [7],
  })
  await server.waitForPort(7)
  const socket = connect(server.port(7), '127.0.0.1')
  socket.write('is anybody there?')
  const [answer] = await once(socket, 'data')
  socket.destroy()
  assert.equal(String(answer), 'is anybody there?')
  await server.remove({ force: true })
})

test('a run ends with an exit code and what was printed', { skip }, async () => {
  const { exitCode, stdout } = await engine.run({ rootfs: { tar }, command: ['/bin/busybox', 'echo', 'hello'] })
  assert.deepEqual([exitCode, stdout], [0, 'hello\n'])
})

test('a program that is not there is an error with a code', { skip }, async () => {
  const error = await engine.run({ rootfs: { tar }, command: ['/bin/nothing'] }).catch((reason) => reason)
  assert.ok(error instanceof MayflyError)
  assert.equal(error.code, 'PROGRAM_NOT_FOUND')
})
