/**
 * The process that dies in teardown.test.ts. It starts containers of every awkward kind, tells what it has, and then ends the
 * way it is told to: `node teardown.scenario.mjs '{"home": …, "rootfs": …}'`, then one line on stdin for each step.
 */

import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type Container, type ContainerOptions, Engine } from '../../src/index.ts'

export interface Settings {
  readonly home: string
  readonly rootfs: string
  /** A directory to bind into a container. */
  readonly bind: string
  /** Without control groups: no paused container, none with limits. */
  readonly groups: boolean
  /** Put before the names of kinds. */
  readonly prefix: string
}

export interface Started {
  readonly session: string
  readonly kinds: readonly string[]
  readonly tcpPort: number
  readonly udpPort: number
}

const settings: Settings = isMainThread ? JSON.parse(process.argv[2]!) : workerData
const say = (fact: unknown) => process.stdout.write(`${JSON.stringify(fact)}\n`)

/** Every process of it dies a moment after it has made the next one, in a session and a process group of its own. */
const STORM = 'storm() { while :; do setsid sh -c "sleep 0.2 & sleep 0.2 & exec sleep 0.1" & sleep 0.05; done; }; storm'
const DEAF = 'trap "" HUP INT QUIT TERM USR1 USR2 PIPE ALRM CONT TSTP TTIN TTOU; while :; do sleep 1; done'
const MOUNTS =
  'mount -t tmpfs none /mnt && mkdir /mnt/deep && mount -t tmpfs none /mnt/deep && cd /mnt/deep && exec 5>file; while :; do sleep 1; done'
const FILES = 'for i in $(seq 500); do echo $i > /tmp/$i; done; echo written; while :; do sleep 1; done'

function kinds(): Record<string, Partial<ContainerOptions> & Pick<ContainerOptions, 'command'>> {
  const sh = (script: string) => ['sh', '-c', script]
  return {
    sleeper: { command: ['sleep', '1000'] },
    user: { command: ['sleep', '1000'], user: 'nobody' },
    // As gosu does in images: the first process itself takes another user, and that drops its parent-death signal.
    switcher: { command: ['su', 'alice', '-c', 'sleep 1000'] },
    storm: { command: sh(STORM), ulimits: { nproc: 4000 } },
    deaf: { command: sh(DEAF) },
    mounts: {
      command: sh(MOUNTS),
      capAdd: ['SYS_ADMIN'],
      tmpfs: { '/var': 'size=1m' },
      mounts: [{ type: 'bind', source: settings.bind, target: '/bound' }],
    },
    ports: {
      command: ['httpd', '-f', '-p', '80'],
      ports: [80, { container: 53, protocol: 'udp' }],
    },
    files: { command: sh(FILES) },
    terminal: { command: ['sh'], tty: true, stdin: true },
    init: { command: sh('sleep 1000 & sleep 1000 & wait'), init: true },
    networked: {
      command: ['httpd', '-f', '-p', '80'],
      ports: [80],
      networks: ['apart', 'bridge'],
      hostAccess: { ports: true },
      mounts: [{ type: 'volume', source: 'stays', target: '/volume' }],
    },
    host: { command: ['sleep', '1000'], network: 'host' },
    // Where the session's PID namespace is not around them, their parent-death signal is not either.
    pids: { command: sh('setsid sleep 1000 & exec su alice -c "sleep 1000"'), pid: 'host' },
    joined: {
      command: ['su', 'alice', '-c', 'sleep 1000'],
      pid: 'container:sleeper',
      ipc: 'container:sleeper',
      network: 'container:sleeper',
    },
    // Namespaces inside of namespaces, and mounts that say they are shared.
    nested: {
      command: sh(
        'mount --make-rshared /; exec unshare -m -n -p -f sh -c "mount -t tmpfs none /mnt; setsid sleep 1000 & sleep 1000"',
      ),
      privileged: true,
    },
    ...(settings.groups
      ? {
          paused: { command: sh('while :; do sleep 0.1; done') },
          limited: {
            command: sh('dd if=/dev/zero of=/tmp/fill bs=1M count=8; sleep 1000'),
            scratch: 'memory' as const,
            limits: { memoryBytes: 64 * 1024 * 1024, pids: 50 },
          },
        }
      : {}),
  }
}

async function startAll(engine: Engine): Promise<{ facts: Started; clients: Socket[] }> {
  const entries = Object.entries(kinds())
  await engine.networks.create({ name: 'apart' })
  await engine.networks.create({ name: 'unused', internal: true })
  const start = ([name, options]: (typeof entries)[number]) => {
    const env = { KIND: `${settings.prefix}${name}` }
    return engine.start({ name, rootfs: { directory: settings.rootfs }, env, ...options })
  }
  const [sleeper, ...others] = entries // others join its namespaces
  const started = [await start(sleeper!), ...(await Promise.all(others.map(start)))]
  const by = new Map<string, Container>(started.map((container) => [container.name, container]))
  const ports = by.get('ports')!
  await Promise.all([
    ports.waitForPort(80),
    by.get('files')!.waitForLog('written', { timeoutMs: 20_000 * Number(process.env.MAYFLY_TEST_SLOWNESS ?? 1) }),
    by.get('paused')?.pause(),
  ])
  // A client that stays connected, one program that stays inside, one reader that stays attached.
  const client = connect(ports.port(80), '127.0.0.1')
  client.on('error', () => {})
  await new Promise((resolve) => client.once('connect', resolve))
  await by.get('sleeper')!.execStream(['sh', '-c', 'echo inside; exec sleep 1000'])
  follow(by.get('storm')!)
  follow(by.get('sleeper')!)
  const facts = {
    session: engine.info.session,
    kinds: entries.map(([name]) => `${settings.prefix}${name}`),
    tcpPort: ports.port(80),
    udpPort: ports.port(53, 'udp'),
  }
  return { facts, clients: [client] }
}

const readers = new AbortController()

async function follow(container: Container): Promise<void> {
  try {
    for await (const _entry of container.logs({ follow: true, signal: readers.signal }));
  } catch {} // the warden was killed, or we read no more
}

const ends: Record<string, (engine: Engine) => unknown> = {
  exit: () => process.exit(1),
  throw: () =>
    setImmediate(() => {
      throw new Error('nobody catches this')
    }),
  reject: () => void Promise.reject(new Error('nobody handles this')),
  // Nothing keeps node alive then: not the engine, not its containers, not the program inside one. A loop that waits for the next
  // line of a log would, so it is left.
  finish: () => {
    readers.abort()
    process.stdin.destroy()
  },
  close: async (engine) => {
    await engine.close()
    process.exit(0)
  },
}

/** Ten containers on their way, the first of them perhaps there. */
function startTen(engine: Engine): void {
  for (let i = 0; i < 10; i++) {
    const options: ContainerOptions = {
      rootfs: { directory: settings.rootfs },
      command: ['sh', '-c', 'sleep 1000 & sleep 1000'],
      env: { KIND: `start ${i}` },
      ports: [80, { container: 80, protocol: 'udp' }],
      ...(i % 2 ? { user: 'nobody' } : { tmpfs: { '/var': '' } }),
      ...(settings.groups ? { limits: { pids: 20 } } : {}),
    }
    engine.start(options).catch(() => {})
  }
}

async function inMainThread(): Promise<void> {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  let engine: Engine | undefined
  let clients: Socket[] = []
  for (;;) {
    const { value, done } = await lines.next()
    if (done) process.exit(0)
    const [step, argument] = value.split(' ')
    if (step === 'open') {
      const opening = Engine.open({ home: settings.home })
      say('opening')
      engine = await opening
      say('open')
    } else if (step === 'all') {
      const started = await startAll(engine!)
      clients = started.clients
      say(started.facts)
    } else if (step === 'ten') {
      startTen(engine!)
      say('starting')
    } else if (step === 'probe') {
      // What a user sees of a session that died: an error with a code, soon.
      const error = await engine!
        .start({ rootfs: { directory: settings.rootfs }, command: ['true'] })
        .catch((reason) => reason)
      for (const client of clients) client.destroy()
      say({ code: error.code, message: error.message })
    } else if (step === 'worker') {
      const worker = new Worker(new URL(import.meta.url), {
        workerData: { ...settings, home: `${settings.home}-worker`, prefix: 'worker ' },
      })
      const facts = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
      say(facts)
      await lines.next()
      await worker.terminate()
      say('terminated')
    } else if (step === 'end') {
      if (argument === 'finish') for (const client of clients) client.destroy()
      ends[argument!]!(engine!)
      if (argument === 'finish') return
    }
  }
}

async function inWorker(): Promise<void> {
  const engine = await Engine.open({ home: settings.home })
  const { facts } = await startAll(engine)
  parentPort!.postMessage(facts)
  setInterval(() => {}, 1000)
}

await (isMainThread ? inMainThread() : inWorker())
