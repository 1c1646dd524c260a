/** What is different with MariaDB and MySQL: the state of its server, and databases from a template, which they do not have themselves. */

import { randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { mariadb } from '../../src/fixtures/mariadb.js'
import { mysql } from '../../src/fixtures/mysql.js'
import { query } from '../fixtures/support/mysql-query.js'
import { obstacle, serviceWorld } from '../fixtures/support/world.js'
import { temporaryDirectory } from '../support/temporary.js'

const SCHEMA = `
create table birds (id int auto_increment primary key, name varchar(20) not null);
create table nests (bird int, foreign key (bird) references birds (id));
create view names as select name from birds;
insert into birds (name) values ('wren'), ('it''s an owl');
insert into nests values (1);`

describe.skipIf(obstacle()).each([['mariadb', mariadb] as const, ['mysql', mysql] as const])(
  'a prepared %s',
  (service, define) => {
    const world = serviceWorld(service)

    test('begins with its data, goes back to it, and gives each test a database of its own', async () => {
      let calls = 0
      const definition = define(world.image)
        .withSnapshotKey(randomBytes(8).toString('hex'))
        .withMigrations((at) => {
          calls++
          return query(at.connectionUri, SCHEMA)
        })
      await using first = await definition.start()
      await using server = await definition.start()
      expect(calls).toBe(1)
      await query(server.connectionUri, 'drop table nests')
      await server.reset()
      expect(await query(server.connectionUri, 'select * from nests')).toEqual([{ bird: 1 }])

      for (let round = 0; round < 2; round++) {
        await using db = await server.createDatabase()
        expect(await query(db.connectionUri, 'select name from names order by 1')).toEqual([
          { name: "it's an owl" },
          { name: 'wren' },
        ])
        await expect(query(db.connectionUri, 'insert into nests values (99)')).rejects.toThrow('foreign key')
        await query(db.connectionUri, 'delete from nests; delete from birds')
      }
      for (const ms of [0, 1, 3, 10]) {
        const givenUp = server.createDatabase({ name: 'test_again', signal: AbortSignal.timeout(ms) })
        await givenUp.then(
          (db) => db.drop(),
          ({ name }) => expect(name).toBe('TimeoutError'),
        )
        await using _again = await server.createDatabase({ name: 'test_again' })
      }
      const left = `select schema_name as name from information_schema.schemata where schema_name like 'test\\_%'`
      expect(await query(server.getConnectionUri(true), left)).toEqual([])
      await expect(server.createDatabase({ template: 'nowhere' })).rejects.toMatchObject({ code: 'QUERY_FAILED' })
      expect(await query(first.connectionUri, 'select count(*) as n from birds')).toEqual([{ n: 2 }])
    })

    test('runs the files of a directory, and tells which of them failed, with what the client said', async () => {
      const directory = temporaryDirectory('migrations')
      const key = randomBytes(8).toString('hex')
      const definition = define(world.image).withSnapshotKey(key).withMigrations(directory)
      try {
        await writeFile(
          join(directory, '2.sql'),
          "insert into birds (name) values ('wren'); insert into fish values (1);",
        )
        await writeFile(join(directory, '1.sql'), SCHEMA)
        await expect(definition.start()).rejects.toMatchObject({
          code: 'MIGRATION_FAILED',
          file: join(directory, '2.sql'),
          exitCode: 1,
          logTail: expect.stringContaining("Table 'test.fish' doesn't exist"),
        })
        await writeFile(join(directory, '2.sql'), "insert into birds (name) values ('wren');")
        await using db = await definition.start()
        expect(await query(db.connectionUri, 'select count(*) as n from birds')).toEqual([{ n: 3 }])
      } finally {
        await rm(directory, { recursive: true, force: true })
      }
    })

    test('tells of a migration function that failed, and why', async () => {
      const failing = define(world.image).withMigrations((at) => at.executeQuery('insert into fish values (1)'))
      await expect(failing.start()).rejects.toMatchObject({
        code: 'MIGRATION_FAILED',
        message: expect.stringContaining("Table 'test.fish' doesn't exist"),
      })
    })
  },
)
