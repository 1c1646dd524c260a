/** `mayfly/jest` in real runs of Jest 29 and 30, in projects of CommonJS and of ES modules. */
import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../engine/support/world.js'
import { INSTALL_TIMEOUT_MS } from '../package/support/installed.js'
import { missingRegistry } from '../package/support/packed.js'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.js'
import { openTerritory, type Territory } from '../support/territory.js'
import { IMAGE, makeModules, putImage, runTests, startTests, writeFiles } from './support/runners.js'

const why = obstacle() || (process.getuid?.() === 0 ? await missingRegistry() : 'a territory needs root')
if (why) console.warn(`skipped: mayfly/jest in real runs: ${why}`)

type Kind = 'cjs' | 'esm'

/** An import as the project's kind of modules has it. */
const load = (kind: Kind, names: string, from: string) =>
  kind === 'esm' ? `import ${names} from '${from}'\n` : `const ${names} = require('${from}')\n`

// Not fetch: Jest 30 takes what that keeps in the process for a leak.
const HELPERS = `
const says = (text) => new GenericContainer('${IMAGE}')
  .withCommand(['sh', '-c', 'echo I am ' + text + '; mkdir -p /www && echo ' + text + ' > /www/index.html && exec httpd -f -p 80 -h /www'])
  .withExposedPorts(80)
const get = (web) => new Promise((resolve, reject) => {
  const request = http.get({ host: '127.0.0.1', port: web.getFirstMappedPort(), agent: false }, (answer) => {
    let text = ''
    answer.setEncoding('utf8').on('data', (piece) => { text += piece }).on('end', () => resolve(text))
  })
  request.on('error', reject)
})
`
const files = (kind: Kind) => {
  const head = [
    load(kind, 'http', 'node:http'),
    load(kind, '{ GenericContainer, Wait }', 'mayfly'),
    load(kind, '{ shareContainers, useContainer, useContainers }', 'mayfly/jest'),
    HELPERS,
  ].join('')
  const main = kind === 'esm' ? 'export default ' : 'module.exports = '
  return {
    'package.json': JSON.stringify({
      private: true,
      ...(kind === 'esm' ? { type: 'module' } : {}),
      jest: { transform: {}, globalSetup: './shared.js' },
    }),
    'shared.js': `${head}
const say = (line) => process.stderr.write(line + '\\n')
const web = says('shared').withHooks({ started: () => say('shared: started'), stopped: () => say('shared: stopped') })
${main}shareContainers({ web })
`,
    'core.test.js': `${load(kind, '{ GenericContainer }', 'mayfly')}
let own
beforeAll(async () => { own = await new GenericContainer('${IMAGE}').withCommand(['sleep', '600']).start() }, 100_000)
test('has a container that nobody stops', async () => {
  expect((await own.exec('echo there')).output).toBe('there\\n')
})
`,
    'teardown.js': `${load(kind, 'shared', './shared.js')}${main}() => shared.teardown()\n`,
    'passes.test.js': `${head}${load(kind, 'shared', './shared.js')}
const one = useContainer(says('one').withWaitStrategy(Wait.forHttp('/', 80)))
const { two, three } = useContainers({ two: says('two'), three: says('three') }, { scope: 'test' })
const ids = new Set()
const inEnvironment = process.env.IN_ENVIRONMENT === '1'
afterAll(async () => { if (inEnvironment) expect(await get(one)).toBe('one\\n') })
afterEach(async () => { if (inEnvironment) expect(await get(two)).toBe('two\\n') })
expect(() => one.getId()).toThrow('is not started here')
for (const name of ['first', 'second']) {
  test(name, async () => {
    ids.add(one.getId()).add(two.getId())
    expect(await Promise.all([one, two, three].map(get))).toEqual(['one\\n', 'two\\n', 'three\\n'])
    expect((await one.exec(['echo', 'hello'])).stdout).toBe('hello\\n')
  })
}
test('one for the file, others for each test', () => expect(ids.size).toBe(3))
describe('a block', () => {
  const inner = useContainer(says('inner'))
  test('has its own', async () => expect(await get(inner)).toBe('inner\\n'))
})
test('what is shared', async () => {
  const { web } = shared.inject()
  expect(await get(web)).toBe('shared\\n')
  expect((await web.exec(['echo', 'hello'])).stdout).toBe('hello\\n')
  await web.copyContentToContainer([{ content: 'a note', target: '/note' }])
  expect((await web.exec(['cat', '/note'])).stdout).toBe('a note')
})
`,
    'fails/fails.test.js': `${head}${load(kind, 'shared', '../shared.js')}
const file = useContainer(says('file'))
const { own } = useContainers({ own: says('own') }, { scope: 'test' })
shared.inject()
test('fails', () => { throw new Error('this is wrong') })
`,
    'slow/slow.test.js': `${head}
const one = useContainer(says('one'))
test('stays', async () => {
  process.stderr.write('it runs with ' + one.getName() + '\\n')
  if (process.env.STAY) await new Promise((resolve) => setTimeout(resolve, 60_000))
}, 100_000)
`,
  }
}

const ENVIRONMENT = ['--env', 'mayfly/jest/environment']

describe.skipIf(why)('mayfly/jest', () => {
  let territory: Territory
  let before: Leftovers

  beforeAll(async () => {
    territory = await openTerritory()
    await putImage(join(territory.directory, 'home'))
    for (const runner of ['jest29', 'jest30'] as const) {
      for (const kind of ['cjs', 'esm'] as const) {
        const directory = join(territory.directory, `${runner}-${kind}`)
        mkdirSync(directory)
        await makeModules(directory, runner)
        writeFiles(directory, files(kind))
      }
    }
    before = snapshotHost(territory)
  }, INSTALL_TIMEOUT_MS)
  afterAll(() => territory?.[Symbol.dispose]())

  const setting = (runner: 'jest29' | 'jest30', kind: Kind, env: NodeJS.ProcessEnv = {}) => ({
    directory: join(territory.directory, `${runner}-${kind}`),
    options: {
      enter: territory.enter,
      nodeOptions: kind === 'esm' ? ['--experimental-vm-modules', '--no-warnings'] : [],
      env: { MAYFLY_HOME: join(territory.directory, 'home'), ...env },
    },
  })

  // An ES module that imports another is a leak of Jest's own, whatever they do, so there it is not asked.
  test.each([
    ['jest29', 'cjs', [], ['--detectLeaks']],
    ['jest29', 'cjs', ENVIRONMENT, ['--detectOpenHandles']],
    ['jest29', 'esm', ENVIRONMENT, ['--detectOpenHandles']],
    ['jest30', 'cjs', ENVIRONMENT, ['--detectLeaks']],
    ['jest30', 'cjs', [], ['--detectOpenHandles']],
    ['jest30', 'esm', [], ['--detectOpenHandles']],
    ['jest30', 'esm', ENVIRONMENT, []],
  ] as const)(
    'gives containers to tests and takes them away: %s, %s %j %j',
    async (runner, kind, environment, flags) => {
      const { directory, options } = setting(runner, kind, environment.length > 0 ? { IN_ENVIRONMENT: '1' } : {})
      const args = ['passes.test', ...environment, ...flags]
      const { exitCode, text } = await runTests(directory, runner, args, options)
      expect(text).toMatch(/Tests:\s+5 passed, 5 total/)
      expect(text).not.toMatch(/open handle|did not exit|leaking/)
      expect(exitCode).toBe(0)
      await expectNothingLeft(territory, before)
    },
  )

  test('takes away with the file what it has started by itself, in its environment', async () => {
    const { directory, options } = setting('jest30', 'cjs')
    const args = ['core.test', '--runInBand', '--detectLeaks', ...ENVIRONMENT]
    const { exitCode, text } = await runTests(directory, 'jest30', args, options)
    expect(text).toMatch(/Tests:\s+1 passed, 1 total/)
    expect(text).not.toMatch(/open handle|did not exit|leaking/)
    expect(exitCode).toBe(0)
    await expectNothingLeft(territory, before)
  })

  test.each([
    ['jest29', 'cjs'],
    ['jest30', 'esm'],
  ] as const)('shows with a failed test what its containers printed: %s, %s', async (runner, kind) => {
    const { directory, options } = setting(runner, kind)
    const { exitCode, text } = await runTests(directory, runner, ['fails.test', ...ENVIRONMENT], options)
    expect(exitCode).toBe(1)
    // Where one file fails, Jest says all of it once.
    for (const [name, said] of [
      [IMAGE, 'file'],
      ['own', 'own'],
      ['web', 'shared'],
    ]) {
      expect(text.match(new RegExp(`Last output of "${name}":\\n\\s*\\| I am ${said}`, 'g'))).toHaveLength(1)
    }
    await expectNothingLeft(territory, before)
  })

  test('leaves nothing with several workers and --bail', async () => {
    const { directory, options } = setting('jest30', 'cjs')
    const args = ['passes.test', 'fails.test', '--bail', '--maxWorkers', '2', ...ENVIRONMENT]
    const { exitCode, text } = await runTests(directory, 'jest30', args, options)
    expect(text).toContain('this is wrong')
    expect(exitCode).toBe(1)
    await expectNothingLeft(territory, before)
  })

  test.each([
    ['jest29', 'esm'],
    ['jest30', 'cjs'],
  ] as const)('stops what is shared in a global teardown: %s, %s', async (runner, kind) => {
    const { directory, options } = setting(runner, kind, { IN_ENVIRONMENT: '1' })
    const args = ['passes.test', '--globalTeardown', './teardown.js', ...ENVIRONMENT]
    const { exitCode, text } = await runTests(directory, runner, args, options)
    expect(text).toMatch(/shared: started[\s\S]*shared: stopped/)
    expect(exitCode).toBe(0)
    await expectNothingLeft(territory, before)
  })

  test('keeps what is shared between the runs of watch mode and leaves nothing after Ctrl-C', async () => {
    const { directory, options } = setting('jest30', 'cjs')
    const run = startTests(directory, 'jest30', ['slow.test', '--watchAll', ...ENVIRONMENT], options)
    await run.said(/it runs with[\s\S]*Ran all test suites/)
    appendFileSync(join(directory, 'slow/slow.test.js'), '// changed\n')
    await run.said(/(it runs with[\s\S]*Ran all test suites[\s\S]*){2}/)
    run.child.kill('SIGINT')
    const { text } = await run.ended
    expect(text.match(/shared: started/g)).toHaveLength(1)
    await expectNothingLeft(territory, before)
  })

  test.each(['SIGKILL', 'SIGINT'] as const)('leaves nothing after %s', async (signal) => {
    const { directory, options } = setting('jest30', 'cjs', { STAY: '1' })
    const run = startTests(directory, 'jest30', ['slow.test'], options)
    await run.said(/it runs with/)
    run.child.kill(signal)
    await run.ended
    await expectNothingLeft(territory, before)
  })
})
