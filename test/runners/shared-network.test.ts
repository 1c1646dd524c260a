/** A network and its containers that all workers of a run use, and on it containers of the workers' own: Vitest and Jest for real. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../engine/support/world.js'
import { INSTALL_TIMEOUT_MS, runtime } from '../package/support/installed.js'
import { missingRegistry } from '../package/support/packed.js'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.js'
import { openTerritory, type Territory } from '../support/territory.js'
import { IMAGE, makeModules, putImage, type Runner, runTests, writeFiles } from './support/runners.js'

const why = obstacle() || (process.getuid?.() === 0 ? await missingRegistry() : 'a territory needs root')
if (why) console.warn(`skipped: a network shared by a test run: ${why}`)

type Kind = 'cjs' | 'esm'

const load = (kind: Kind, names: string, from: string) =>
  kind === 'esm' ? `import ${names} from '${from}'\n` : `const ${names} = require('${from}')\n`

/** What a test file has forgotten went with its worker, and not only with what is shared. */
const FORGOTTEN = `
  await until('forgotten is gone', async () => !(await isThere(globalThis.database, 'forgotten')))
  note('forgotten is gone')
`
/** How many test files do the same at once. */
const MANY = 8

const files = (door: 'vitest' | 'jest', kind: Kind) => {
  const main = kind === 'esm' ? 'export default ' : 'module.exports = '
  const head = [
    load(kind, '{ appendFileSync, existsSync, readFileSync, writeFileSync }', 'node:fs'),
    load(kind, '{ GenericContainer, Network }', 'mayfly'),
    load(kind, '{ shareContainers }', `mayfly/${door}`),
    `
const serves = (text) => new GenericContainer('${IMAGE}')
  .withCommand(['sh', '-c', 'mkdir -p /www && echo ' + text + ' > /www/index.html && exec httpd -f -p 80 -h /www'])
  .withExposedPorts(80)
const fetchIn = async (container, name, ...first) =>
  (await container.exec([...first, 'wget', '-qO-', 'http://' + name + '/'])).stdout
const isThere = async (container, name) => (await container.exec(['busybox', 'nslookup', name])).exitCode === 0
const note = (line) => appendFileSync(process.env.NOTES, line + '\\n')
const until = async (what, isSo) => {
  for (const end = Date.now() + 60_000; !(await isSo()); ) {
    if (Date.now() > end) throw new Error('not within a minute: ' + what)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
`,
  ].join('')
  const test =
    (door === 'vitest' ? load(kind, '{ expect, test }', 'vitest') : '') + head + load(kind, 'shared', './shared.js')
  const many = Object.fromEntries(
    [...Array(MANY).keys()].map((number) => [
      `many-${number}.test.js`,
      `${test}
const { network, db } = shared.inject()
test('has its own app beside the shared database', async () => {
  const definition = serves('app-${number}').withNetwork(network, { aliases: ['app', 'app-${number}'] })
  const app = await definition.start()
  note('one ' + db.getId())
  expect(await fetchIn(app, 'db')).toBe('data\\n')
  expect(await fetchIn(db, 'app-${number}')).toBe('app-${number}\\n')
  // One of those that are there at this moment, which may be about to go.
  await until('app answers', async () => (await fetchIn(db, 'app')).startsWith('app-'))
  const log = []
  const following = await app.logs()
  following.on('data', (line) => log.push(line))
  await app.copyContentToContainer([{ content: 'hello', target: '/www/hello' }])
  expect((await app.readFile('/www/hello')).toString()).toBe('hello')
  await app.stop()
}, 100_000)
`,
    ]),
  )
  return {
    'package.json': JSON.stringify({
      private: true,
      ...(kind === 'esm' ? { type: 'module' } : {}),
      ...(door === 'jest'
        ? { jest: { transform: {}, globalSetup: './shared.js', globalTeardown: './teardown.js' } }
        : {}),
    }),
    'vitest.config.js': "export default { test: { globalSetup: './setup.js' } }",
    'shared.js': `${head}
const network = new Network()
const db = serves('data').withNetwork(network, { aliases: ['db'] }).withHooks({
  started: (container) => { globalThis.database = container },
})
const spare = serves('spare').withNetwork(network, { aliases: ['spare'] })
${main}shareContainers({ network, db, spare })
`,
    'setup.js': `${head}${load(kind, 'shared', './shared.js')}
export default async (project) => {
  const stop = await shared(project)
  return async () => {
    ${FORGOTTEN}
    await stop()
  }
}
`,
    'teardown.js': `${head}${load(kind, 'shared', './shared.js')}${main}async () => {
  ${FORGOTTEN}
  await shared.teardown()
}
`,
    ...many,
    'forgets.test.js': `${test}
test('forgets', async () => {
  const { network, db } = shared.inject()
  await serves('forgotten').withNetwork(network, { aliases: ['forgotten'] }).start()
  expect(await isThere(db, 'forgotten')).toBe(true)
}, 100_000)
`,
    'dies.test.js': `${test}
test('dies', async () => {
  await serves('victim').withNetwork(shared.inject().network, { aliases: ['victim'] }).start()
  await until('told to die', () => existsSync(process.env.NOTES + '.die'))
  const { spare } = shared.inject()
  await spare.cutOff()
  await spare.pause()
  note(await spare.state())
  process.kill(process.pid, 'SIGKILL')
  await new Promise(() => {})
}, 100_000)
`,
    'survives.test.js': `${test}
test('survives', async () => {
  const { network, db } = shared.inject()
  const mine = await serves('mine').withNetwork(network, { aliases: ['mine'] }).start()
  await until('the victim is there', () => isThere(db, 'victim'))
  writeFileSync(process.env.NOTES + '.die', '')
  const begin = Date.now()
  await until('the victim is gone', async () => !(await isThere(db, 'victim')))
  note('gone in ' + (Date.now() - begin))
  expect(await fetchIn(mine, 'db')).toBe('data\\n')
  await until('the other worker has cut it off', () => readFileSync(process.env.NOTES, 'utf8').includes('paused'))
  await until('the spare one answers', async () => (await fetchIn(mine, 'spare', 'busybox', 'timeout', '1')) === 'spare\\n')
  const another = await serves('another').withNetwork(network).start()
  expect(await fetchIn(another, 'mine')).toBe('mine\\n')
  await another.stop()
  await mine.stop()
  note('survived')
}, 100_000)
`,
  }
}

describe.skipIf(why)('a network that a test run shares', () => {
  let territory: Territory
  let before: Leftovers
  let node22: string
  let count = 0

  beforeAll(async () => {
    territory = await openTerritory()
    await putImage(join(territory.directory, 'home'))
    node22 = (await runtime('node22'))[0]!
    const projects: [Runner, Kind][] = [
      ...(['vitest4', 'vitest3', 'vitest5'] as const).map((runner): [Runner, Kind] => [runner, 'esm']),
      ['jest29', 'cjs'],
      ['jest30', 'esm'],
      ['jest30', 'cjs'],
    ]
    for (const [runner, kind] of projects) {
      const directory = join(territory.directory, `${runner}-${kind}`)
      mkdirSync(directory)
      await makeModules(directory, runner)
      writeFiles(directory, files(runner.startsWith('jest') ? 'jest' : 'vitest', kind))
    }
    before = snapshotHost(territory)
  }, INSTALL_TIMEOUT_MS)
  afterAll(() => territory?.[Symbol.dispose]())

  async function run(runner: Runner, kind: Kind, words: readonly string[]) {
    const notes = join(territory.directory, `notes-${count++}`)
    writeFileSync(notes, '')
    const { exitCode, text } = await runTests(join(territory.directory, `${runner}-${kind}`), runner, words, {
      enter: territory.enter,
      node: runner === 'vitest5' ? node22 : process.execPath,
      nodeOptions: kind === 'esm' && runner.startsWith('jest') ? ['--experimental-vm-modules', '--no-warnings'] : [],
      env: { MAYFLY_HOME: join(territory.directory, 'home'), NOTES: notes },
    })
    await expectNothingLeft(territory, before)
    return { exitCode, text, notes: readFileSync(notes, 'utf8').trim().split('\n') }
  }

  const inVitest = (pool: string, workers: number, ...filters: string[]) => [
    'run', '--pool', pool, '--maxWorkers', String(workers), '--dir', '.', ...filters,
  ] // biome-ignore format: words
  const inJest = (workers: number, ...rest: string[]) => ['--maxWorkers', String(workers), ...rest]
  const ENVIRONMENT = ['--env', 'mayfly/jest/environment']

  test.each([
    ['vitest3', 'esm', inVitest('forks', MANY, 'many', 'forgets')],
    ['vitest4', 'esm', inVitest('forks', MANY, 'many', 'forgets')],
    ['vitest4', 'esm', inVitest('threads', MANY, 'many', 'forgets')],
    ['vitest4', 'esm', inVitest('vmThreads', 2, 'many', 'forgets')],
    ['vitest5', 'esm', inVitest('threads', MANY, 'many', 'forgets')],
    ['jest29', 'cjs', inJest(MANY, 'many', 'forgets')],
    ['jest30', 'cjs', inJest(2, 'many', 'forgets', '--detectLeaks', ...ENVIRONMENT)],
    ['jest30', 'esm', inJest(MANY, 'many', 'forgets', ...ENVIRONMENT)],
    // All in the process that shares.
    ['jest30', 'cjs', ['--runInBand', 'many', 'forgets', ...ENVIRONMENT]],
  ] as const)(
    'has containers of all its workers, found by name both ways: %s, %s, %j',
    async (runner, kind, words) => {
      const { exitCode, text, notes } = await run(runner, kind, words)
      expect(text).toMatch(new RegExp(`Tests:?\\s+${MANY + 1} passed`))
      expect(text).not.toMatch(/open handle|did not exit|leaking/)
      expect(exitCode).toBe(0)
      const shared = notes.filter((line) => line.startsWith('one '))
      expect(shared).toHaveLength(MANY)
      expect(new Set(shared).size).toBe(1)
      expect(notes.at(-1)).toBe('forgotten is gone')
    },
    100_000,
  )

  test.each([
    ['vitest4', 'esm', inVitest('forks', 2, 'dies', 'survives')],
    ['jest29', 'cjs', inJest(2, 'dies', 'survives')],
    ['jest30', 'esm', inJest(2, 'dies', 'survives', ...ENVIRONMENT)],
  ] as const)(
    'loses the containers of a worker that is killed, and nothing else: %s, %s, %j',
    async (runner, kind, words) => {
      const { exitCode, notes, text } = await run(runner, kind, words)
      expect(text).toMatch(/SIGKILL|exited unexpectedly|terminated/)
      expect(exitCode).toBe(1)
      expect(notes).toContain('survived')
      const [, milliseconds] = /gone in (\d+)/.exec(notes.join('\n'))!
      // A few milliseconds as a rule; the machine may be busy.
      expect(Number(milliseconds)).toBeLessThan(20_000)
    },
    100_000,
  )
})
