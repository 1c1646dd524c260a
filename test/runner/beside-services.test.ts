/** What a worker starts beside a shared Postgres: clients of it, databases of its own, images of its own. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type PostgreSqlContainer, postgres, type StartedPostgreSqlContainer } from '../../src/fixtures/postgres.js'
import { GenericContainer, Network, type StartedNetwork, startAll, Wait } from '../../src/index.js'
import { pooled } from '../../src/pool.js'
import { sharedMembersOf } from '../../src/runner/members.js'
import { rebuild, type SharedSet, startShared } from '../../src/runner/share.js'
import { obstacle, serviceWorld } from '../fixtures/support/world.js'

const why = await obstacle()
if (why) console.warn(`skipped: beside a shared Postgres: ${why}`)

describe.skipIf(why)('beside a shared Postgres', { timeout: 60_000 }, () => {
  const world = serviceWorld('postgres')
  let shared: SharedSet
  let network: StartedNetwork
  let db: StartedPostgreSqlContainer
  let own: PostgreSqlContainer

  beforeAll(async () => {
    const definition = new Network()
    const members = sharedMembersOf({
      network: definition,
      db: postgres(world.image).withNetwork(definition, { aliases: ['db'] }),
    })
    shared = await startShared(members, new AbortController().signal)
    const injected = rebuild(members, shared.told) as unknown as { network: StartedNetwork; db: typeof db }
    ;({ network, db } = injected)
    own = postgres(world.image).withNetwork(network, { aliases: ['own'] })
  }, 120_000)
  afterAll(() => shared?.stop())

  const query = (host: string, sql: string) => ['psql', '-h', host, '-U', 'test', '-d', 'test', '-Atc', sql]

  test('a client in a container of its own reaches it as db:5432', async () => {
    await using client = await new GenericContainer(world.image)
      .withNetwork(network)
      .withEntrypoint(['sleep'])
      .withCommand(['600'])
      .withEnvironment({ PGPASSWORD: 'test' })
      .start()
    expect((await client.exec(query('db', 'SELECT 6 * 7'))).stdout).toBe('42\n')
  })

  test('databases of its own begin with prepared states, are reset and have templates', async () => {
    const migrated = own.withMigrations((started) => started.executeQuery('CREATE TABLE orders (n int)'), {
      key: 'beside',
    })
    await using first = await migrated.start()
    await first.executeQuery('INSERT INTO orders VALUES (1)')
    await using database = await first.createDatabase()
    expect(database.connectionUri).toContain(`:${first.getPort()}/`)
    await first.reset()
    expect(await first.executeQuery('SELECT count(*) FROM orders')).toContain('0')
    const { stdout } = await first.exec(query('db', 'SELECT 1'), { env: { PGPASSWORD: 'test' } })
    expect(stdout).toBe('1\n')
    const { stdout: back } = await db.exec(query('own', 'SELECT 2'), { env: { PGPASSWORD: 'test' } })
    expect(back).toBe('2\n')
  })

  test('a migration that fails says so, and nothing is kept', async () => {
    const failing = own.withMigrations((started) => started.executeQuery('CREATE TABEL x ()'), { key: 'failing' })
    for (let turn = 0; turn < 2; turn++) {
      await expect(failing.start()).rejects.toMatchObject({ code: 'MIGRATION_FAILED' })
    }
  })

  test('a pool keeps the next one ready there', async () => {
    const definition = own.withPool(1)
    await using first = await definition.start()
    await expect.poll(() => pooled(definition), { timeout: 20_000 }).toBe(1)
    await using second = await definition.start()
    expect(second.getId()).not.toBe(first.getId())
    await expect.poll(() => pooled(definition), { timeout: 20_000 }).toBe(1)
  })

  test('an image that was built here runs there', async () => {
    const built = await GenericContainer.fromDockerfile({
      dockerfile: `FROM ${world.image}\nCOPY note.txt /note.txt\nENTRYPOINT ["sleep", "600"]`,
      files: { 'note.txt': 'built here' },
    }).build()
    await using container = await built.withNetwork(network).start()
    expect(String(await container.readFile('/note.txt'))).toBe('built here')
    expect(await container.commit({ repo: 'committed' })).toMatch(/^sha256:/)
    await using again = await new GenericContainer('committed').withNetwork(network).start()
    expect(String(await again.readFile('/note.txt'))).toBe('built here')
  })

  test('several start together, after what they depend on', async () => {
    const client = new GenericContainer(world.image)
      .withNetwork(network)
      .withEntrypoint(query('own', 'SELECT 3'))
      .withEnvironment({ PGPASSWORD: 'test' })
      .withWaitStrategy(Wait.forOneShotStartup())
      .dependsOn(own)
    const [started] = await startAll([client])
    expect(await started.stdout()).toBe('3\n')
    await started.stop()
  })
})
