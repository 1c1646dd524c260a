// The library and the engine without a test runner. It ends with containers running, as a program may.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Engine, GenericContainer, Wait } from 'mayfly'
import { redis } from 'mayfly/fixtures/redis'

const { IMAGE, REDIS } = process.env

const engine = await Engine.open()
const { exitCode, stdout } = await engine.run({ image: IMAGE, command: ['echo', 'hello'] })
assert.deepEqual([exitCode, stdout], [0, 'hello\n'])

const container = await engine.start({ image: IMAGE, command: ['sleep', '600'] })
const result = await container.exec(['sh', '-c', 'echo out; echo err >&2; exit 3'])
assert.deepEqual([result.exitCode, result.stdout, result.stderr], [3, 'out\n', 'err\n'])

// More than any buffer holds, in both directions, with a reader that takes its time.
const BYTES = 20 * 1024 * 1024
const counting = await container.execStream({ command: ['wc', '-c'], stdin: true })
for (let sent = 0; sent < BYTES; sent += 65_536) {
  if (!counting.stdin.write(new Uint8Array(65_536))) await once(counting.stdin, 'drain')
}
counting.stdin.end()
let counted = ''
for await (const piece of counting.stdout) counted += Buffer.from(piece)
assert.equal(Number(counted), BYTES)
const writing = await container.execStream(['head', '-c', `${BYTES}`, '/dev/zero'])
let read = 0
for await (const piece of writing.stdout) {
  read += piece.length
  await new Promise((resolve) => setTimeout(resolve, 1))
}
assert.equal(read, BYTES)

const cache = await redis(REDIS).start()
const socket = connect(cache.getPort(), '127.0.0.1')
socket.write('PING\r\n')
const [answer] = await once(socket, 'data')
assert.equal(String(answer), '+PONG\r\n')
socket.destroy()
assert.equal(await cache.executeCliCmd('PING'), 'PONG\n')
await cache.stop()

const dying = new GenericContainer(IMAGE).withCommand(['sh', '-c', 'echo bye; exit 7'])
await assert.rejects(dying.withWaitStrategy(Wait.forLogMessage('never')).start(), { code: 'CONTAINER_EXITED' })

console.log('the suite has passed')
