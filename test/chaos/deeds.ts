/** What test processes do with an engine, one function each. They throw what the engine throws, and WrongAnswer for what it must never say. */

import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Container, ContainerOptions, Engine } from '../../src/index.ts'
import type { Dice } from './dice.ts'

export interface Circumstances {
  readonly engine: Engine
  readonly dice: Dice
  /** For names that no other deed gives. */
  readonly tag: string
  readonly registry: string
  /** Works in a worker thread for so long, and ends it. */
  readonly thread: (forMs: number) => Promise<void>
  /** The round is over: what waits, waits no longer. */
  readonly signal: AbortSignal
}

export class WrongAnswer extends Error {}

export const base = 'chaos-base:1'
/** An image that stays in the store through all rounds. */
export const kept = (registry: string) => `${registry}/kept:1`

/** Its layers are told from those of another name, and its files can be summed up without it. A file that finds no room has to fail the step: a shell goes on. */
export function dockerfileOf(name: string): string {
  const lines = [
    `RUN mkdir /made && for i in $(seq 100); do echo ${name} $i >/made/$i || exit 1; done`,
    `RUN echo ${name} >/made/last && rm /made/7`,
  ]
  return [`FROM ${base}`, ...lines, `ENV NAME=${name}`].join('\n')
}

/**
 * No pipes, and each file looked at: where a process cannot be had or the disk is full, the shell has to fail, and not to sum up nothing. Busybox's seq and
 * md5sum do not mind when they cannot write.
 */
const SUM = [
  'set -e',
  'ls /made >/tmp/list',
  'cd /made',
  'cat $(cat /tmp/list) >/tmp/all',
  'md5sum /tmp/all >/tmp/sum',
  'test -s /tmp/list',
  'test -s /tmp/all',
  'test -s /tmp/sum',
  'cut -c1-32 /tmp/sum',
].join('; ')

function expect(what: string, found: unknown, expected: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(expected))
    throw new WrongAnswer(
      `${what}: ${JSON.stringify(found)?.slice(0, 500)} instead of ${JSON.stringify(expected)?.slice(0, 500)}`,
    )
}

const sh = (script: string) => ['sh', '-c', script]
const WAIT = { timeoutMs: 20_000 }
const within = () => ({ signal: AbortSignal.timeout(20_000) })

async function sumOf(engine: Engine, image: string, name: string, signal?: AbortSignal): Promise<void> {
  const { exitCode, stdout, isTruncated } = await engine.run(
    { image, command: sh(`${SUM}; echo $NAME`) },
    signal ? { signal } : {},
  )
  if (exitCode !== 0 || isTruncated) return // its program has failed for want of something, and says so
  const sum = createHash('md5').update(filesOf(name)).digest('hex')
  expect(`the files of ${image}`, stdout.split('\n').slice(0, 2), [sum, name])
}

/** What is in its files, in the order of their names. */
function filesOf(name: string): string {
  const files = [...Array.from({ length: 100 }, (_, i) => `${i + 1}`).filter((i) => i !== '7'), 'last']
  return files
    .sort()
    .map((file) => (file === 'last' ? `${name}\n` : `${name} ${file}\n`))
    .join('')
}

const remove = async (...containers: Container[]) => {
  await Promise.all(containers.map((one) => one.remove({ force: true })))
}

export const deeds: Readonly<Record<string, (circumstances: Circumstances) => Promise<void>>> = {
  async run({ engine, dice, tag }) {
    const code = dice.pick([0, 10, 11, 12]) // a shell that cannot fork ends with 2
    const options: ContainerOptions = {
      image: base,
      command: sh(`echo ${tag}; id -u || exit 99; exit ${code}`),
      user: dice.pick(['0', 'alice', 'nobody']),
      ...(dice.happens(0.3) ? { scratch: 'memory' as const } : {}),
      ...(dice.happens(0.3) ? { limits: { pids: 20, memoryBytes: 64 << 20 } } : {}),
      ...(dice.happens(0.2) ? { init: true } : {}),
      ...(dice.happens(0.2) ? { network: 'none' as const } : {}),
    }
    const { exitCode, stdout, isTruncated } = await engine.run(options)
    const user = { 0: '0', alice: '1000', nobody: '65534' }[options.user as '0']
    if (exitCode === code && !isTruncated) expect('what a container printed', stdout, `${tag}\n${user}\n`)
  },

  async many({ engine, dice, tag }) {
    const command = sh('sleep 1000 & setsid sleep 1000 & wait')
    const count = dice.between(5, 15)
    const started = await Promise.allSettled(
      Array.from({ length: count }, (_, i) =>
        engine.start({ image: base, command, name: `${tag}-${i}`, ports: i % 3 ? [] : [80] }),
      ),
    )
    const there = started.flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
    await remove(...there)
    for (const one of started) if (one.status === 'rejected') throw one.reason
  },

  async serve({ engine, dice, tag }) {
    const container = await engine.start({
      image: base,
      command: ['nc', '-ll', '-p', '80', '-e', 'echo', tag],
      ports: [80],
    })
    try {
      await container.waitForPort(80, WAIT)
      const said = await ask(container.port(80))
      if (said !== undefined) expect('what a published port said', said, `${tag}\n`)
      for (let i = 0; i < dice.between(1, 4); i++) {
        const { exitCode, stdout } = await container.exec(
          sh(`echo ${i}; seq 2000 >/tmp/s && test $(wc -l </tmp/s) = 2000 && tail -n 1 /tmp/s`),
          within(),
        )
        if (exitCode === 0) expect('what an exec printed', stdout, `${i}\n2000\n`)
      }
      if (dice.happens(0.3)) {
        await container.pause()
        await container.unpause()
      }
      if (dice.happens(0.3)) await container.stats()
      if (dice.happens(0.5)) await container.stop({ timeoutMs: 50 })
    } finally {
      await container.remove({ force: true })
    }
  },

  async files({ engine, dice }) {
    const container = await engine.start({ image: base, command: sh('echo begins; seq 30000; echo ends; sleep 1000') })
    try {
      await container.waitForLog('ends', WAIT)
      const lines = (await container.logText()).split('\n')
      if (lines.length > 30_000) expect('a log', [lines.length, lines[0], lines[30_001]], [30_003, 'begins', 'ends'])
      const { exitCode } = await container.exec(
        sh('mkdir /from && for i in $(seq 50); do seq $i >/from/$i; done'),
        within(),
      )
      const pieces: Uint8Array[] = []
      for await (const piece of container.copyOut('/from')) pieces.push(piece)
      await container.copyIn('/tmp', pieces)
      const { stdout } = await container.exec(sh('diff -r /from /tmp/from && echo same'), within())
      if (exitCode === 0 && stdout) expect('files copied out and in again', stdout, 'same\n')
      if (dice.happens(0.3)) for await (const _piece of container.export());
    } finally {
      await container.remove({ force: true })
    }
  },

  async build({ engine, dice, tag, signal }) {
    const reference = `chaos-built:${tag}`
    const lines = [
      dockerfileOf(tag),
      'COPY . /copied/',
      `RUN --mount=type=cache,target=/cache echo ${tag} >>/cache/${dice.between(1, 3)}`,
      `FROM ${base}`,
      `COPY --from=0 /made /made`,
      `ENV NAME=${tag}`,
    ]
    const files = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`file${i}`, `${tag} ${i}`]))
    await engine.images.build({
      context: { dockerfile: lines.join('\n'), files },
      tags: [reference],
      ...(dice.happens(0.5) ? { signal } : {}),
    })
    await sumOf(engine, reference, tag)
    if (dice.happens(0.5)) await engine.images.remove(reference)
    if (dice.happens(0.2)) await engine.images.prune({ buildCache: true })
  },

  async pull({ engine, dice, registry, signal }) {
    const name = dice.pick(['app', 'other', 'kept'])
    const reference = `${registry}/${name}:1`
    await engine.images.pull(reference, { signal })
    await sumOf(engine, reference, name, signal)
    // Another process may be using it, or may have removed it: both are answers.
    if (name !== 'kept' && dice.happens(0.7)) await engine.images.remove(reference)
  },

  async kept({ engine, registry }) {
    const mounts = [{ type: 'volume' as const, source: 'kept', target: '/data', readonly: true }]
    const script = 'cat /data/[0-9]* >/tmp/all && wc -l </tmp/all && stat -c %a /data/deep'
    const { exitCode, stdout, isTruncated } = await engine.run({ image: kept(registry), command: sh(script), mounts })
    if (exitCode === 0 && !isTruncated) expect('the volume that stays', stdout, '200\n700\n')
    await sumOf(engine, kept(registry), 'kept')
  },

  async base({ engine }) {
    const { exitCode, stdout, isTruncated } = await engine.run({ image: base, command: ['cat', '/etc/group'] })
    if (exitCode === 0 && !isTruncated)
      expect('a file of the base image', stdout, 'root:x:0:\nalice:x:1000:\nnogroup:x:65534:\n')
  },

  async volume({ engine, tag }) {
    const volume = await engine.volumes.create({ name: `chaos-${tag}` })
    const mounts = [{ type: 'volume' as const, source: volume.name, target: '/data' }]
    const written = await engine.run({
      image: base,
      command: sh(`seq 100 >/data/${tag} && test $(wc -l </data/${tag}) = 100`),
      mounts,
    })
    const { exitCode, stdout, isTruncated } = await engine.run({
      image: base,
      command: sh(`wc -l </data/${tag}`),
      mounts,
    })
    if (written.exitCode === 0 && exitCode === 0 && !isTruncated) expect('what a volume holds', stdout, '100\n')
    await volume.remove()
  },

  async network({ engine, dice, tag }) {
    const network = await engine.networks.create({ name: `n${tag}`, internal: dice.happens(0.5) })
    const containers: Container[] = []
    try {
      const command = ['nc', '-ll', '-p', '80', '-e', 'echo', tag]
      containers.push(await engine.start({ image: base, command, name: `server${tag}`, networks: [network.name] }))
      containers.push(await engine.start({ image: base, command: ['sleep', '1000'], networks: [network.name] }))
      await containers[0]!.waitForPort(80, WAIT)
      // What it waits for a connection, twice for an answer and twice for the name is less than an exec may take.
      const { exitCode, stdout } = await containers[1]!.exec(['nc', '-w', '2', `server${tag}`, '80'], within())
      if (exitCode === 0 && stdout) expect('what a neighbour said', stdout, `${tag}\n`)
      if (dice.happens(0.5)) {
        await engine.networks.connect(containers[1]!.id, 'bridge')
        await engine.networks.disconnect(containers[1]!.id, network.name)
      }
      if (dice.happens(0.3)) await containers[1]!.impair({ latencyMs: 5 })
    } finally {
      await remove(...containers)
    }
    await network.remove()
  },

  async snapshot({ engine, tag }) {
    const command = sh('trap "exit 0" TERM; echo ready; while :; do sleep 0.1; done')
    const container = await engine.start({ image: base, command, remove: false })
    try {
      await container.waitForLog('ready', WAIT) // before its trap, nothing ends the first process of a namespace
      const { exitCode } = await container.exec(
        sh(`seq 50 >/root/${tag} && test $(wc -l </root/${tag}) = 50 && rm /etc/group`),
        within(),
      )
      await using snapshot = await container.snapshot({ timeoutMs: 5_000 })
      const again = await engine.run({
        from: snapshot,
        command: sh(`wc -l </root/${tag}; ls /etc/group || echo gone`),
        remove: true,
      })
      if (exitCode === 0 && again.exitCode === 0 && !again.isTruncated)
        expect('what a snapshot holds', again.stdout, '50\ngone\n')
      await container.exec(sh('echo more >/root/more'), within())
      await container.reset()
      const after = await container.exec(sh('ls /root'), within())
      if (after.exitCode === 0) expect('what a reset left', after.stdout, `${tag}\n`)
    } finally {
      await container.remove({ force: true })
    }
  },

  async commit({ engine, tag, signal }) {
    const container = await engine.start({ image: base, command: ['sleep', '1000'] })
    try {
      const written = await container.exec(sh(`echo ${tag} >/committed && test -s /committed`), within())
      const image = await container.commit({ reference: `chaos-committed:${tag}`, signal })
      const { exitCode, stdout, isTruncated } = await engine.run({ image: image.id, command: ['cat', '/committed'] })
      if (written.exitCode === 0 && exitCode === 0 && !isTruncated) expect('a committed file', stdout, `${tag}\n`)
      await engine.images.remove(`chaos-committed:${tag}`)
    } finally {
      await container.remove({ force: true })
    }
  },

  async leave({ engine, dice }) {
    // Nobody removes these: the session's end does.
    await engine.start({
      image: base,
      command: sh('while :; do setsid sleep 0.2 & sleep 0.1; done'),
      user: dice.pick(['0', 'alice']),
      ports: [80],
    })
  },

  async thread({ dice, thread }) {
    await thread(dice.between(50, 2_000))
  },

  async pause({ dice }) {
    await sleep(dice.between(10, 300))
  },
}

/** What a server on the loopback says, or undefined: it was cut off. */
function ask(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    let said = ''
    const socket = connect(port, '127.0.0.1')
    socket.setTimeout(10_000, () => socket.destroy())
    socket.setEncoding('utf8').on('data', (text) => {
      said += text
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(said || undefined))
  })
}
