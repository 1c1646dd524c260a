/** What a prepared state knows migrations by. */

import { createHash } from 'node:crypto'
import { type Migration, sqlFiles } from './migrations.js'

/** What a migration is known by. */
export interface MigrationKey {
  readonly text: string
  /** It means the same in another process. */
  readonly isLasting: boolean
}

const numbers = new WeakMap<object, number>()
let functions = 0

/** Of a function, nobody can tell what it does: it has the key that it was given, or one of this process. */
export async function migrationKey(migration: Migration): Promise<MigrationKey> {
  if ('directory' in migration) {
    const hash = createHash('sha256')
    for (const { path, sql } of await sqlFiles(migration.directory)) {
      hash.update(`${path.slice(migration.directory.length)}\0${sql.length}\0`).update(sql)
    }
    return { text: `directory ${hash.digest('hex')}`, isLasting: true }
  }
  const { run, key } = migration
  if (key !== undefined) return { text: `key ${key}`, isLasting: true }
  const number = numbers.get(run) ?? ++functions
  numbers.set(run, number)
  return { text: `function ${number}`, isLasting: false }
}
