/** Each project of `examples`, copied to a place of its own and run by its own `npm test`, with the built package installed. */
import { cpSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Engine } from '../../src/engine/engine.js'
import { obstacle } from '../engine/support/world.js'
import { INSTALL_TIMEOUT_MS } from '../package/support/installed.js'
import { missingRegistry, root, run } from '../package/support/packed.js'
import {
  missingServiceImages,
  SERVICE_HOME,
  SERVICE_IMAGE_TIMEOUT_MS,
  type Service,
  serviceImage,
} from '../support/service-images.js'
import { temporaryDirectory } from '../support/temporary.js'
import { installModules } from './support/runners.js'

const why = obstacle() || (await missingServiceImages()) || (await missingRegistry())
if (why) console.warn(`skipped: the examples: ${why}`)

const EXAMPLES = join(root, 'examples')
/** What the examples' images are where Docker Hub is out of reach: the store has our own under these names. */
const IMAGES: Readonly<Record<string, Service>> = {
  'postgres:17': 'postgres',
  'redis:8': 'redis',
  'nginx:1.29': 'nginx',
}

describe.skipIf(why)('examples', () => {
  let directory: string

  beforeAll(async () => {
    directory = temporaryDirectory('examples')
    const built = await Promise.all(Object.values(IMAGES).map(serviceImage))
    await using engine = await Engine.open({ home: SERVICE_HOME, network: false })
    for (const [index, name] of Object.keys(IMAGES).entries()) await engine.images.tag(built[index]!, name)
  }, SERVICE_IMAGE_TIMEOUT_MS)
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  async function install(name: string): Promise<string> {
    const project = join(directory, name)
    cpSync(join(EXAMPLES, name), project, { recursive: true })
    await installModules(project)
    return project
  }

  const inProject = (cwd: string, command: string) => {
    const env = { MAYFLY_HOME: SERVICE_HOME, NO_COLOR: '1', CI: 'true' }
    return run('sh', ['-c', command], { cwd, env })
  }

  test.each([
    ['vitest-postgres', /Tests\s+3 passed \(3\)/],
    ['jest-redis', /Tests:\s+3 passed, 3 total/],
    ['jest-esm', /Tests:\s+4 passed, 4 total/],
    ['web-app', /Tests\s+4 passed \(4\)/],
    ['dockerfile', /Tests\s+2 passed \(2\)/],
    ['two-services', /Tests\s+2 passed \(2\)/],
    ['shared-network', /Tests\s+2 passed \(2\)/],
    ['node-test', /^(?:#|ℹ) pass 2$/m],
    ['mocha', /^\s*2 passing/m],
  ])('%s', { timeout: INSTALL_TIMEOUT_MS }, async (name, passed) => {
    const { exitCode, text } = await inProject(await install(name), 'npm test')
    expect(text).toMatch(passed)
    expect(text).not.toMatch(/open handle|did not exit|MaxListeners/)
    expect(exitCode).toBe(0)
  })

  test('github-actions: the commands of the workflow', { timeout: INSTALL_TIMEOUT_MS }, async () => {
    const project = await install('github-actions')
    const workflow = readFileSync(join(project, '.github/workflows/test.yml'), 'utf8')
    const commands = [...workflow.matchAll(/^ {6}- run: (.*)$/gm)].map(([, command]) => command!)
    // The runner's kernel is not ours to set, and the packages are installed.
    const possible = commands.filter((command) => !/^(sudo|npm ci)/.test(command))
    expect(possible).toEqual(['npx mayfly doctor', 'npm test'])
    for (const command of possible) {
      const { exitCode, text } = await inProject(project, command)
      expect(exitCode, `${command}: ${text}`).toBe(0)
    }
  })
})

test('every example has its line in the list', () => {
  const names = readdirSync(EXAMPLES, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  const list = readFileSync(join(EXAMPLES, 'README.md'), 'utf8')
  expect(names.map(({ name }) => name).filter((name) => !list.includes(`| [${name}](${name}) |`))).toEqual([])
})
