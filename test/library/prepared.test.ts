/** Prepared states, snapshots, resets, pools and databases from a template, with a real Postgres. */

import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackendState } from '../../src/backends/backend.js'
import { wardenProgram } from '../../src/engine/where.js'
import { type PostgreSqlContainer, postgres } from '../../src/fixtures/postgres.js'
import { GenericContainer } from '../../src/generic-container.js'
import { pooled } from '../../src/pool.js'
import { startAll } from '../../src/start-all.js'
import type { StartedTestContainer } from '../../src/started-container.js'
import { Wait } from '../../src/wait/wait.js'
import { obstacle, serviceWorld } from '../fixtures/support/world.js'
import { bundleScenario, startScenario } from '../support/scenario.js'
import { SERVICE_HOME } from '../support/service-images.js'
import { temporaryDirectory } from '../support/temporary.js'

const INITIALISED = 'PostgreSQL init process complete'

describe.skipIf(obstacle())('a prepared state', () => {
  const world = serviceWorld('postgres')
  let directory: string
  /** Of its own for each test: nothing is prepared yet. */
  let fresh: PostgreSqlContainer

  beforeAll(async () => {
    directory = temporaryDirectory('prepared')
  })
  afterAll(() => rm(directory, { recursive: true, force: true }))
  beforeEach(() => {
    fresh = postgres(world.image).withSnapshotKey(randomBytes(8).toString('hex'))
  })

  async function query(uri: string, sql: string): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({ connectionString: uri })
    client.on('error', () => {}) // the server may go first
    await client.connect()
    try {
      return (await client.query(sql)).rows
    } finally {
      await client.end()
    }
  }

  const hasInitialised = async (db: StartedTestContainer) => (await db.stdout()).includes(INITIALISED)

  test('spares every start the initialisation, and no container sees what another has written', async () => {
    await using one = await fresh.start()
    await using two = await fresh.start()
    expect([await hasInitialised(one), await hasInitialised(two)]).toEqual([false, false])
    await query(one.connectionUri, 'create table mine (id int)')
    await expect(query(two.connectionUri, 'select * from mine')).rejects.toThrow('does not exist')
    expect((await one.exec(['id', '-un'])).stdout).toBe('root\n')
  })

  test('can be done without', async () => {
    await using db = await fresh.withPreparedState(false).start()
    expect(await hasInitialised(db)).toBe(true)
    await query(db.connectionUri, 'select 1')
  })

  test('is not used where a line of the log is waited for, which would not come again', async () => {
    const waiting = fresh.withWaitStrategy(Wait.forLogMessage(/ready to accept connections/, 2))
    await using db = await waiting.start()
    expect(await hasInitialised(db)).toBe(true)
  })

  test('holds what init scripts and migrations have made, and is another when one of them changes', async () => {
    const init = join(directory, 'init.sql')
    const migrations = await mkdtemp(join(directory, 'migrations-'))
    await writeFile(init, 'create table birds (name text);')
    await writeFile(join(migrations, '2.sql'), "insert into birds values ('wren');")
    await writeFile(join(migrations, '1.sql'), 'alter table birds add column age int default 3;')
    const definition = fresh.withInitScripts(init).withMigrations(migrations)
    for (let round = 0; round < 2; round++) {
      await using db = await definition.start()
      expect(await query(db.connectionUri, 'select * from birds')).toEqual([{ name: 'wren', age: 3 }])
    }

    await writeFile(join(migrations, '3.sql'), "insert into birds values ('owl', 9);")
    await using later = await definition.start()
    expect(await query(later.connectionUri, 'select name from birds order by 1')).toEqual([
      { name: 'owl' },
      { name: 'wren' },
    ])
    await writeFile(init, 'create table birds (name text, extra text);')
    await using changed = await definition.start()
    expect(await query(changed.connectionUri, 'select extra from birds order by name')).toEqual([
      { extra: '9' },
      { extra: null },
    ])
  })

  test('holds what a migration function has made, which is called once', async () => {
    let calls = 0
    const definition = fresh.withMigrations(async (db) => {
      calls++
      await query(db.connectionUri, 'create table made (id int)')
    })
    for (let round = 0; round < 3; round++) {
      await using db = await definition.start()
      expect(await query(db.connectionUri, 'select * from made')).toEqual([])
    }
    expect(calls).toBe(1)
  })

  test('that a start was making when it was given up is made by the next one that waits for it', async () => {
    const controller = new AbortController()
    let calls = 0
    const definition = fresh.withMigrations(async (db) => {
      if (calls++ === 0) await new Promise(() => {}) // hangs
      await query(db.connectionUri, 'create table made (id int)')
    })
    const givenUp = definition.start({ signal: controller.signal })
    await expect.poll(() => calls, { timeout: 20_000 }).toBe(1)
    const waiting = [definition.start(), definition.start()]
    await setTimeout(500) // until they wait
    controller.abort(new Error('enough'))
    await expect(givenUp).rejects.toThrow('enough')
    for (const start of waiting) {
      await using db = await start
      expect(await query(db.connectionUri, 'select * from made')).toEqual([])
    }
    expect(calls).toBe(2)
  })

  test('that cannot be kept says why, also where its container cannot be removed either', async () => {
    const { backend } = world
    const create = backend.createContainer.bind(backend)
    backend.createContainer = async (...options) => {
      const container = await create(...options)
      const remove = container.remove.bind(container)
      container.keepState = () => Promise.reject(new Error('not kept'))
      container.remove = async (how) => {
        await remove(how)
        throw new Error('not removed')
      }
      return container
    }
    try {
      await expect(fresh.withMigrations(() => {}).start()).rejects.toThrow('not kept')
    } finally {
      backend.createContainer = create
    }
  })

  test('runs migrations at every start where there is no prepared state', async () => {
    const migrate = (db: { connectionUri: string }) => query(db.connectionUri, 'create table made (id int)')
    await using db = await fresh.withPreparedState(false).withMigrations(migrate).start()
    expect(await query(db.connectionUri, 'select * from made')).toEqual([])
  })

  test('is not kept when a migration fails, which is told with its file and what the client said', async () => {
    const migrations = await mkdtemp(join(directory, 'migrations-'))
    await writeFile(join(migrations, '1.sql'), 'create table birds (name text);')
    await writeFile(join(migrations, '2.sql'), "insert into birds values ('wren');\ninsert into fish values (1);")
    const definition = fresh.withMigrations(migrations)
    // Again, for had a state been kept, the second would begin with it.
    for (let i = 0; i < 2; i++)
      await expect(definition.start()).rejects.toMatchObject({
        code: 'MIGRATION_FAILED',
        file: join(migrations, '2.sql'),
        logTail: expect.stringContaining('relation "fish" does not exist'),
      })

    await writeFile(join(migrations, '2.sql'), "insert into birds values ('wren');")
    await using db = await definition.start()
    expect(await query(db.connectionUri, 'select name from birds')).toEqual([{ name: 'wren' }])
  })

  test('is not kept when a migration function fails, which is told', async () => {
    const error = new Error('no such column')
    const failing = fresh.withMigrations(() => Promise.reject(error))
    await expect(failing.start()).rejects.toMatchObject({ code: 'MIGRATION_FAILED', cause: error })
    await expect(fresh.withMigrations(join(directory, 'nowhere')).start()).rejects.toMatchObject({
      code: 'PATH_NOT_FOUND',
      field: 'migrations',
    })
  })

  test('is made once by processes that need it at the same time', async () => {
    const script = join(directory, 'scenario.mjs')
    const counter = join(directory, 'count')
    await bundleScenario(new URL('./prepared.scenario.ts', import.meta.url).pathname, script)
    const words = [process.execPath, script, SERVICE_HOME, world.image, randomBytes(8).toString('hex'), counter]
    const env = { MAYFLY_WARDEN: wardenProgram() }
    const scenarios = [startScenario(words, env), startScenario(words, env)]
    const facts = await Promise.all(scenarios.map((scenario) => scenario.fact<{ output: string }>()))
    expect(facts).toEqual([{ output: '1\n' }, { output: '1\n' }])
    expect(readFileSync(counter, 'utf8')).toBe('once\n')
    for (const { code } of await Promise.all(scenarios.map(({ ended }) => ended))) expect(code).toBe(0)
  })

  test('leaves nothing when its process is killed while it is made, and is made by the next', async () => {
    const script = join(directory, 'scenario.mjs')
    const marker = join(directory, 'killed')
    const key = randomBytes(8).toString('hex')
    await bundleScenario(new URL('./prepared.scenario.ts', import.meta.url).pathname, script)
    const env = { MAYFLY_WARDEN: wardenProgram() }
    const scenario = startScenario([process.execPath, script, SERVICE_HOME, world.image, key, marker, 'hang'], env)
    await expect.poll(() => existsSync(marker), { timeout: 20_000 }).toBe(true) // the migration hangs
    process.kill(scenario.pid, 'SIGKILL')
    await scenario.ended

    const again = startScenario([process.execPath, script, SERVICE_HOME, world.image, key, marker], env)
    expect(await again.fact()).toEqual({ output: '1\n' })
    expect(readFileSync(marker, 'utf8')).toBe('once\nonce\n')
    await again.ended
  })

  test('is what reset goes back to, under the same port, with connections cut', async () => {
    await using db = await fresh.withMigrations((at) => query(at.connectionUri, 'create table kept (id int)')).start()
    const { port } = db
    const connected = new pg.Client({ connectionString: db.connectionUri })
    const cut = new Promise((resolve) => connected.on('error', () => {}).once('end', resolve))
    await connected.connect()
    await connected.query('insert into kept values (1); create table more (id int)')

    await db.reset()

    await cut
    expect(db.port).toBe(port)
    expect(await query(db.connectionUri, 'select * from kept')).toEqual([])
    await expect(query(db.connectionUri, 'select * from more')).rejects.toThrow('does not exist')
  })

  test('gives way to a snapshot, for resets and for others that start from it', async () => {
    await using db = await fresh.start()
    await query(db.connectionUri, 'create table words (word text)')
    await using snapshot = await db.snapshot({})
    await query(db.connectionUri, "insert into words values ('later')")
    await db.reset()
    expect(await query(db.connectionUri, 'select * from words')).toEqual([])

    await using other = await fresh.start({ from: snapshot })
    expect(await query(other.connectionUri, 'select * from words')).toEqual([])
    await expect(fresh.start({ from: 'snapshot' as never })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'from',
    })
  })

  test('is for any container that wants it', async () => {
    const definition = new GenericContainer(world.image)
      .withEntrypoint([
        'sh',
        '-c',
        'trap "exit 0" TERM; [ -e /made ] || date +%N > /made; while :; do sleep 0.05; done',
      ])
      .withWaitStrategy(Wait.forFile('/made', { content: /\d/ }))
      .withSnapshotKey(randomBytes(8).toString('hex'))
    await using one = await definition.start()
    await using two = await definition.start()
    expect(String(await one.readFile('/made'))).toBe(String(await two.readFile('/made')))
    await using without = await definition.withPreparedState(false).start()
    expect(String(await without.readFile('/made'))).not.toBe(String(await one.readFile('/made')))
  })

  test('can be a pool of them: the next is ready when it is asked for', async () => {
    const definition = fresh.withPool(1)
    await using first = await definition.start()
    await expect.poll(() => pooled(definition), { timeout: 10_000 }).toBe(1)

    const asked = new Date()
    await using second = await definition.start()
    const { startedAt } = await second.inspect()
    expect(second.getId()).not.toBe(first.getId())
    await query(second.connectionUri, 'create table own (id int)')
    expect(startedAt!.getTime()).toBeLessThan(asked.getTime())
    await expect.poll(() => pooled(definition), { timeout: 10_000 }).toBe(1)
    await using third = await definition.start()
    await expect(query(third.connectionUri, 'select * from own')).rejects.toThrow('does not exist')
  })

  test('of a pool is found also by those that start several at once, and is not for those that depend on others', async () => {
    const definition = fresh.withPool(1)
    const [first] = await startAll([definition])
    await using _first = first
    await expect.poll(() => pooled(definition), { timeout: 10_000 }).toBe(1)
    const [second] = await startAll([definition])
    await using _second = second
    expect(pooled(definition)).toBe(0) // it was the one, and the next is being made
    await expect.poll(() => pooled(definition), { timeout: 10_000 }).toBe(1)
    expect(pooled(definition.withName('another'))).toBe(0)

    const dependent = new GenericContainer(world.image).withCommand(['sleep', '60']).withPool(1).dependsOn(definition)
    await using third = await dependent.start()
    const [fourth] = await startAll([dependent])
    await using _fourth = fourth
    expect(fourth.getId()).not.toBe(third.getId())
    await fresh.start().then((one) => one.stop()) // time for a pool to be filled
    expect(pooled(dependent)).toBe(0)
  })

  test('is made again when somebody prunes it in the moment before it is used', async () => {
    await (await fresh.start()).stop()
    const { backend } = world
    const find = backend.findState.bind(backend)
    let asked = 0
    // What was found, and has gone.
    backend.findState = (key) => {
      const found = find(key) as BackendState & { readonly layers: readonly string[] }
      return asked++ > 0
        ? found
        : ({ ...found, layers: [`${found.layers[0]}-gone`, ...found.layers.slice(1)] } as never)
    }
    try {
      await using db = await fresh.start()
      expect(await query(db.connectionUri, 'select 1 as one')).toEqual([{ one: 1 }])
      expect(asked).toBe(2)
    } finally {
      backend.findState = find
    }
  })

  test('that is misused says so at once, with what is known here', async () => {
    const wrong = <T>(value: unknown) => value as T
    expect(() => fresh.withMigrations('')).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
    expect(() => fresh.withMigrations('./x', wrong({ kye: 'a' }))).toThrow('did you mean key?')
    expect(() => fresh.withPool(0)).toThrow(expect.objectContaining({ field: 'pool' }))
    expect(() => fresh.withPreparedState(wrong('no'))).toThrow(expect.objectContaining({ field: 'preparedState' }))
    expect(() => fresh.withSnapshotKey(wrong(5))).toThrow(expect.objectContaining({ field: 'snapshotKey' }))
    await expect(fresh.start(wrong({ form: 1 }))).rejects.toThrow('did you mean from?')

    const db = await fresh.start()
    await expect(db.createDatabase(wrong({ templete: 'x' }))).rejects.toThrow('did you mean template?')
    await expect(db.snapshot(wrong({ timeot: 5 }))).rejects.toThrow('did you mean timeout?')
    const snapshot = await db.snapshot({})
    const own = await db.createDatabase()
    await db.stop()
    await own.drop() // went with the server
    for (const use of [
      () => db.createDatabase(),
      () => db.snapshot({}),
      () => db.snapshot(),
      () => db.restoreSnapshot(),
      () => db.reset(),
      () => db.restart(),
      () => db.executeQuery('select 1'),
    ]) {
      await expect(use()).rejects.toMatchObject({ code: 'CONTAINER_NOT_RUNNING', container: db.getName() })
    }
    await snapshot.remove()
    await expect(fresh.start({ from: snapshot })).rejects.toMatchObject({ code: 'INVALID_OPTION', field: 'from' })
  })

  test('does not let two have one name', async () => {
    const named = fresh.withName(`db-${randomBytes(4).toString('hex')}`)
    await using first = await named.start()
    await expect(named.start()).rejects.toMatchObject({ code: 'NAME_TAKEN', container: first.getName() })
    await expect(startAll([named, named.withDatabase('other')])).rejects.toMatchObject({ code: 'NAME_TAKEN' })
  })

  test('gives each test a database of its own inside one server', async () => {
    const migrate = (at: { connectionUri: string }) =>
      query(at.connectionUri, "create table birds (name text); insert into birds values ('wren')")
    await using server = await fresh.withMigrations(migrate).start()
    const names: string[] = []
    for (let round = 0; round < 3; round++) {
      await using db = await server.createDatabase()
      names.push(db.name)
      expect(await query(db.connectionUri, 'select name from birds')).toEqual([{ name: 'wren' }])
      await query(db.connectionUri, 'drop table birds')
    }
    const left = await query(server.connectionUri, `select datname from pg_database where datname like 'test\\_%'`)
    expect(left).toEqual([])
    expect(new Set(names).size).toBe(3)

    await using named = await server.createDatabase({ name: 'mine "too"', template: 'template1' })
    await expect(query(named.connectionUri, 'select * from birds')).rejects.toThrow('does not exist')
    await expect(server.createDatabase({ name: 'mine "too"' })).rejects.toMatchObject({
      code: 'QUERY_FAILED',
      message: expect.stringContaining('already exists'),
    })
    await expect(server.createDatabase({ name: '' })).rejects.toMatchObject({ code: 'INVALID_OPTION', field: 'name' })
    await server.reset()
    await using after = await server.createDatabase()
    expect(await query(after.connectionUri, 'select name from birds')).toEqual([{ name: 'wren' }])
  })

  test('gives up a database when it is told to, at once, and drops what came of it', async () => {
    await using server = await fresh.start()
    const guest = new pg.Client({ connectionString: server.connectionUri })
    guest.on('error', () => {}) // the server may go first
    await guest.connect()
    const begun = performance.now()
    // Postgres waits 5 s for the guest to leave the template.
    const givenUp = server.createDatabase({ name: 'again', signal: AbortSignal.timeout(500) })
    await expect(givenUp).rejects.toMatchObject({ name: 'TimeoutError' })
    expect(performance.now() - begun).toBeLessThan(3_000)
    await guest.end()
    await using again = await server.createDatabase({ name: 'again' })
    expect(await query(again.connectionUri, 'select 1 as one')).toEqual([{ one: 1 }])
    await expect(server.createDatabase({ signal: 'soon' } as never)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'signal',
    })
  })
})
