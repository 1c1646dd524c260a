/** `mayfly/vitest` in real runs of Vitest 3, 4 and 5. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { obstacle } from '../engine/support/world.js'
import { INSTALL_TIMEOUT_MS, runtime } from '../package/support/installed.js'
import { missingRegistry } from '../package/support/packed.js'
import { expectNothingLeft, type Leftovers, snapshotHost } from '../support/leftovers.js'
import { openTerritory, type Territory } from '../support/territory.js'
import { IMAGE, makeModules, putImage, type Runner, runTests, startTests, writeFiles } from './support/runners.js'

const why = obstacle() || (process.getuid?.() === 0 ? await missingRegistry() : 'a territory needs root')
if (why) console.warn(`skipped: mayfly/vitest in real runs: ${why}`)

const HEAD = `
import { appendFileSync } from 'node:fs'
import { GenericContainer } from 'mayfly'
import { containers } from 'mayfly/vitest'
import { expect, it } from 'vitest'
import shared from './shared.js'
const says = (text) => new GenericContainer('${IMAGE}')
  .withCommand(['sh', '-c', 'echo I am ' + text + '; mkdir -p /www && echo ' + text + ' > /www/index.html && exec httpd -f -p 80 -h /www'])
  .withExposedPorts(80)
const note = (line) => appendFileSync(process.env.NOTES, line + '\\n')
const told = (name, container) => container.withHooks({
  beforeCreate: () => note('begin ' + name), started: () => note('ready ' + name), stopped: () => note('gone ' + name),
})
const get = async (web) => (await fetch('http://' + web.getHost() + ':' + web.getFirstMappedPort() + '/')).text()
`
const FILES = {
  'package.json': '{ "type": "module", "private": true }',
  'vitest.config.js': "export default { test: { globalSetup: './shared.js' } }",
  'none.config.js': 'export default {}',
  'shared.js': `
import { GenericContainer } from 'mayfly'
import { shareContainers } from 'mayfly/vitest'
export default shareContainers({
  web: new GenericContainer('${IMAGE}')
    .withCommand(['sh', '-c', 'echo I am shared; mkdir -p /www && echo shared > /www/index.html && exec httpd -f -p 80 -h /www'])
    .withExposedPorts(80),
})
`,
  'passes.test.js': `${HEAD}
const base = told('base', says('base'))
const test = containers({
  own: told('own', says('own')),
  file: [told('file', says('file')), { scope: 'file' }],
  worker: [told('worker', says('worker')), { scope: 'worker' }],
  base,
  top: told('top', says('top').dependsOn(base)),
  never: told('never', says('never')),
})
const ids = { own: new Set(), file: new Set() }
const use = async ({ own, file }) => {
  ids.own.add(own.getId())
  ids.file.add(file.getId())
  expect(await get(own)).toBe('own\\n')
  expect(await get(file)).toBe('file\\n')
}
test('one', async ({ own, file }) => use({ own, file }))
test('two', async ({ own, file }) => use({ own, file }))
test('has containers of its own and those of the file', () => {
  expect([ids.own.size, ids.file.size]).toEqual([2, 1])
})
test('dependency', async ({ top }) => expect(await get(top)).toBe('top\\n'))
test.extend({ address: async ({ own }, use) => use(own.getHost()) })('extended', ({ address, worker }) => {
  expect([address, worker.getHost()]).toEqual(['localhost', 'localhost'])
})
it('shares', async () => {
  const { web } = shared.inject()
  expect(await get(web)).toBe('shared\\n')
  expect(await web.exec(['echo', 'hello'])).toMatchObject({ exitCode: 0, stdout: 'hello\\n' })
  expect((await web.inspect()).startedAt.getTime()).toBeLessThanOrEqual(Date.now())
  const log = await web.logs({ follow: false, since: new Date(Date.now() + 60_000) })
  expect(await log.toArray()).toEqual([])
  await web.copyContentToContainer([{ content: 'a note', target: '/note' }])
  expect((await web.exec(['cat', '/note'])).stdout).toBe('a note')
  await expect(web.stop()).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
  note('shared ' + web.getId())
})
`,
  'shares.test.js': `${HEAD}
shared.test('shares', ({ web }) => note('shared ' + web.getId()))
`,
  'fails/fails.test.js': `${HEAD.replace('./shared', '../shared')}
const test = containers({ own: says('own'), file: [says('file'), { scope: 'file' }], other: [says('other'), { scope: 'file' }] })
test('uses the other', ({ other }) => other.getId())
test('fails', ({ own, file }) => { throw new Error('this is wrong') })
test('is behind', () => note('behind'))
shared.test('fails with what is shared', ({ web }) => { throw new Error('this too') })
`,
  'slow/slow.test.js': `${HEAD.replace('./shared', '../shared')}
const test = containers({ own: says('own') })
test('goes on', async ({ own }) => {
  console.log('it runs: ' + process.env.MARK)
  if (process.env.STAY) await new Promise((resolve) => setTimeout(resolve, 60_000))
}, 100_000)
`,
}

describe.skipIf(why)('mayfly/vitest', () => {
  let territory: Territory
  let before: Leftovers
  let node22: string
  let count = 0

  beforeAll(async () => {
    territory = await openTerritory()
    await putImage(join(territory.directory, 'home'))
    node22 = (await runtime('node22'))[0]!
    for (const runner of ['vitest3', 'vitest4', 'vitest5'] as const) {
      mkdirSync(join(territory.directory, runner))
      await makeModules(join(territory.directory, runner), runner)
      writeFiles(join(territory.directory, runner), FILES)
    }
    before = snapshotHost(territory)
  }, INSTALL_TIMEOUT_MS)
  afterAll(() => territory?.[Symbol.dispose]())

  /** Everything of one run: its directory, its variables and where tests note what happens. */
  function setting(runner: Runner, env: NodeJS.ProcessEnv = {}) {
    const notes = join(territory.directory, `notes-${count++}`)
    writeFileSync(notes, '')
    return {
      directory: join(territory.directory, runner),
      notes: () => readFileSync(notes, 'utf8').trim().split('\n'),
      options: {
        enter: territory.enter,
        node: runner === 'vitest5' ? node22 : process.execPath,
        env: { MAYFLY_HOME: join(territory.directory, 'home'), NOTES: notes, ...env },
      },
    }
  }

  test.each([
    ['vitest3', 'forks'],
    ['vitest4', 'threads'],
    ['vitest4', 'vmThreads'],
    ['vitest5', 'threads'],
  ] as const)('gives containers to tests and takes them away: %s, %s', async (runner, pool) => {
    const { directory, notes, options } = setting(runner)
    const { exitCode, text } = await runTests(
      directory,
      runner,
      ['run', '--pool', pool, '--dir', '.', 'es.test'],
      options,
    )
    expect(text).toMatch(/Tests\s+7 passed \(7\)/)
    expect(exitCode).toBe(0)
    const lines = notes()
    const at = (line: string) => lines.indexOf(line)
    // Side by side: neither waits for the other.
    expect(Math.max(at('begin own'), at('begin file'))).toBeLessThan(Math.min(at('ready own'), at('ready file')))
    // Also those that another fixture asks for.
    expect(lines.lastIndexOf('begin own')).toBeLessThan(at('ready worker'))
    expect(at('ready base')).toBeLessThan(at('begin top'))
    expect(lines.lastIndexOf('gone top')).toBeLessThan(lines.lastIndexOf('gone base'))
    expect(lines.filter((line) => line === 'gone own')).toHaveLength(3)
    expect(lines.filter((line) => line === 'gone file')).toHaveLength(1)
    expect(lines).not.toContain('begin never')
    expect(new Set(lines.filter((line) => line.startsWith('shared '))).size).toBe(1)
    await expectNothingLeft(territory, before)
  })

  test.each(['vitest3', 'vitest4', 'vitest5'] as const)(
    'shows with a failed test what its containers printed: %s',
    async (runner) => {
      const { directory, notes, options } = setting(runner)
      const { exitCode, text } = await runTests(directory, runner, ['run', '--reporter=dot', '--dir', 'fails'], options)
      expect(exitCode).toBe(1)
      expect(notes()).toEqual(['behind'])
      expect(text.match(/Last output of "own":\n\s*\| I am own/g)).toHaveLength(1)
      expect(text.match(/Last output of "file":\n\s*\| I am file/g)).toHaveLength(1)
      expect(text.match(/Last output of "web":\n\s*\| I am shared/g)).toHaveLength(1)
      expect(text).not.toContain('Last output of "other"')
      await expectNothingLeft(territory, before)
    },
  )

  test('leaves nothing when --bail ends the run', async () => {
    const { directory, notes, options } = setting('vitest4')
    const { exitCode } = await runTests(directory, 'vitest4', ['run', '--bail', '1', '--dir', 'fails'], options)
    expect(exitCode).toBe(1)
    expect(notes()).toEqual([''])
    await expectNothingLeft(territory, before)
  })

  test.each(['forks', 'threads'])('leaves nothing when Vitest is killed: %s', async (pool) => {
    const { directory, options } = setting('vitest4', { STAY: '1', MARK: 'now' })
    const run = startTests(directory, 'vitest4', ['run', '--pool', pool, '--dir', 'slow'], options)
    await run.said(/it runs: now/)
    run.child.kill('SIGKILL')
    await run.ended
    for (const pid of territory.members()) if (isNode(pid)) process.kill(pid, 'SIGKILL')
    await expectNothingLeft(territory, before)
  })

  test('goes on in watch mode and leaves nothing after Ctrl-C', async () => {
    const { directory, options } = setting('vitest4', { MARK: 'first' })
    const file = join(directory, 'slow/slow.test.js')
    const run = startTests(directory, 'vitest4', ['watch', '--dir', 'slow'], {
      ...options,
      env: { ...options.env, CI: '' },
    })
    await run.said(/it runs: first[\s\S]*Waiting for file changes/)
    writeFileSync(file, readFileSync(file, 'utf8').replace('it runs: ', 'it runs again: '))
    await run.said(/it runs again: first[\s\S]*Waiting for file changes/)
    run.child.kill('SIGINT')
    await run.ended
    await expectNothingLeft(territory, before)
  })

  test('says what is missing when the global setup did not run', async () => {
    const { directory, options } = setting('vitest4')
    const { exitCode, text } = await runTests(
      directory,
      'vitest4',
      ['run', '--config', 'none.config.js', 'shares.test'],
      options,
    )
    expect(exitCode).toBe(1)
    expect(text).toContain('The shared containers web were not started')
  })
})

/** The main process and its workers, not what mayfly has started. */
function isNode(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('node')
  } catch {
    return false
  }
}
