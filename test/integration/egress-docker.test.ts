/**
 * Docker sets the policy of the FORWARD chain to DROP. Containers of ours on the same host must reach the outside all the
 * same, while everybody else's forwarded packets go on being dropped.
 *
 *     outside 203.0.113.2 ── 203.0.113.1 [ Docker's namespace: FORWARD DROP, mayfly runs here ] 198.51.100.1 ── neighbour
 */

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Dockerd, missingDocker, startDockerd } from '../support/dockerd.ts'

const run = promisify(execFile)

const reason =
  process.getuid?.() !== 0 ? 'needs root' : missingDocker() ? `needs Docker: ${missingDocker()}` : undefined

const NETWORK = `
set -e
ip netns add outside
ip netns add neighbour
ip link add outside0 type veth peer name eth0 netns outside
ip link add neighbour0 type veth peer name eth0 netns neighbour
ip address add 203.0.113.1/24 dev outside0
ip address add 198.51.100.1/24 dev neighbour0
ip link set outside0 up
ip link set neighbour0 up
ip -n outside address add 203.0.113.2/24 dev eth0
ip -n outside link set eth0 up
ip -n outside link set lo up
ip -n outside route add 198.51.100.0/24 via 203.0.113.1
ip -n neighbour address add 198.51.100.2/24 dev eth0
ip -n neighbour link set eth0 up
ip -n neighbour route add default via 198.51.100.1
ip route add default via 203.0.113.2
`

/** Says who asked: the address that the packets of the container carry outside. */
const SERVER = `require('node:net')
  .createServer((socket) => socket.end('outside, asked by ' + socket.remoteAddress + '\\n'))
  .listen(80, '203.0.113.2', () => console.log('listening'))`

/** Runs in Docker's network namespace, so its session's host is Docker's host. */
const MAYFLY = `
import { Engine } from '${fileURLToPath(new URL('../../src/engine/engine.ts', import.meta.url))}'
const [home, directory] = process.argv.slice(2)
await using engine = await Engine.open({ home })
const command = ['/bin/busybox', 'nc', '-w', '5', '203.0.113.2', '80']
const { exitCode, stdout, stderr } = await engine.run({ rootfs: { directory }, command })
console.log(JSON.stringify({ exitCode, stdout, stderr, hasEgress: engine.info.hasEgress, warnings: engine.info.warnings }))
`

/** Makes networks beside those of Docker, and says which. */
const NETWORKS = `
import { Engine } from '${fileURLToPath(new URL('../../src/engine/engine.ts', import.meta.url))}'
const [home] = process.argv.slice(2)
await using engine = await Engine.open({ home })
for (let i = 0; i < 5; i++) await engine.networks.create()
const subnets = engine.networks.list().map(({ subnet }) => subnet)
const refused = await engine.networks.create({ subnet: '10.83.5.0/24' }).catch(({ code, field }) => ({ code, field }))
console.log(JSON.stringify({ subnets, refused }))
`

describe.skipIf(reason)(`egress beside Docker${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let docker: Dockerd
  let server: ReturnType<typeof spawn>
  const script = fileURLToPath(new URL(`../../node_modules/.cache/egress-docker-${process.pid}.mjs`, import.meta.url))

  const inside = async (...words: string[]) => {
    const { stdout } = await run(docker.enter[0]!, [...docker.enter.slice(1), ...words])
    return stdout
  }

  beforeAll(async () => {
    docker = await startDockerd()
    await inside('sh', '-c', NETWORK)
    const words = [...docker.enter.slice(1), 'ip', 'netns', 'exec', 'outside', process.execPath, '-e', SERVER]
    server = spawn(docker.enter[0]!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    await once(server.stdout!, 'data')
  }, 60_000)

  afterAll(async () => {
    await docker?.[Symbol.asyncDispose]()
    await rm(script, { force: true })
  }, 30_000)

  test('Docker drops what others want to have forwarded', async () => {
    expect(await inside('iptables', '-S', 'FORWARD')).toContain('-P FORWARD DROP')
    const ask = () => inside('ip', 'netns', 'exec', 'neighbour', '/bin/busybox', 'nc', '-w', '2', '203.0.113.2', '80')
    await expect(ask()).rejects.toThrow('timed out')

    // It is the policy and nothing else: without it, the same packets arrive.
    await inside('iptables', '-P', 'FORWARD', 'ACCEPT')
    expect(await ask()).toBe('outside, asked by 198.51.100.2\n')
    await inside('iptables', '-P', 'FORWARD', 'DROP')
  })

  test('a container of ours reaches the outside, under the host’s address, and Docker’s rules stay as they were', async () => {
    const rootfs = join(docker.directory, 'rootfs')
    mkdirSync(join(rootfs, 'bin'), { recursive: true })
    mkdirSync(join(rootfs, 'etc'))
    writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n')
    cpSync('/bin/busybox', join(rootfs, 'bin/busybox'))
    const before = await inside('iptables-save')

    expect(await runBeside(MAYFLY, rootfs)).toEqual({
      exitCode: 0,
      stdout: 'outside, asked by 203.0.113.1\n',
      stderr: '',
      hasEgress: true,
      warnings: [],
    })
    expect(rules(await inside('iptables-save'))).toEqual(rules(before))
    expect(await inside('nft', 'list', 'tables')).not.toContain('mayfly')
  })

  test('networks of ours have subnets that no network of Docker’s has, with containers on it or without', async () => {
    const theirs = ['10.83.0.0/16', '172.29.0.0/16', '198.18.0.0/16']
    for (const [index, subnet] of theirs.entries()) {
      await docker.docker('network', 'create', '--subnet', subnet, `theirs${index}`)
    }
    const { subnets, refused } = (await runBeside(NETWORKS)) as { subnets: string[]; refused: object }
    expect(new Set(subnets).size).toBe(6)
    for (const subnet of subnets) expect(subnet).toMatch(/^198\.19\./)
    expect(refused).toEqual({ code: 'SUBNET_IN_USE', field: 'network.subnet' })
  })

  /** What a script of ours tells that runs in Docker's network namespace. */
  async function runBeside(contents: string, ...words: string[]): Promise<unknown> {
    await build({
      stdin: { contents, resolveDir: fileURLToPath(new URL('.', import.meta.url)), loader: 'ts' },
      outfile: script,
      bundle: true,
      packages: 'external',
      format: 'esm',
      platform: 'node',
      target: 'node20.19',
    })
    const home = join(docker.directory, 'home')
    const all = [...docker.enterNetwork.slice(1), process.execPath, script, home, ...words]
    return JSON.parse((await run(docker.enterNetwork[0]!, all)).stdout)
  }
})

/** Without packet counters and dates. */
function rules(save: string): string[] {
  return save
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.replace(/\[\d+:\d+\]/, ''))
}
