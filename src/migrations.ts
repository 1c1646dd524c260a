/** Migrations: what is done once to a service that has just been made, before its state is kept. */

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MayflyError } from './engine/errors.js'
import { refuse, refuseUnknown } from './engine/launch/check.js'
import type { StartedTestContainer } from './started-container.js'

/** One `withMigrations`. */
export type Migration =
  | { readonly directory: string }
  | {
      // biome-ignore lint/suspicious/noExplicitAny: each fixture gives its own started class
      readonly run: (started: any) => unknown
      readonly key: string | undefined
    }

/** Throws INVALID_OPTION. */
export function checkMigration(given: unknown, options: { readonly key?: string } = {}): Migration {
  refuseUnknown(Object.keys(options), ['key'], 'migrations')
  const { key } = options
  if (key !== undefined && (typeof key !== 'string' || key === '')) refuse('migrations.key', key, 'expected a text')
  if (typeof given === 'function') return { run: given as (started: StartedTestContainer) => unknown, key }
  if (typeof given === 'string' && given !== '') return { directory: given }
  return refuse('migrations', given, 'expected a directory of .sql files, or a function')
}

/** The `.sql` files of a directory, in the order of their names. Throws PATH_NOT_FOUND. */
export async function sqlFiles(directory: string): Promise<{ readonly path: string; readonly sql: Buffer }[]> {
  try {
    const names = (await readdir(directory)).filter((name) => name.endsWith('.sql')).sort()
    return await Promise.all(
      names.map(async (name) => ({ path: join(directory, name), sql: await readFile(join(directory, name)) })),
    )
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new MayflyError(
      'PATH_NOT_FOUND',
      `Cannot read the migrations in ${directory}: ${code === 'ENOENT' ? 'it does not exist' : message}`,
      { field: 'migrations', value: directory, ...(code ? { errno: code } : {}) },
      { cause: error },
    )
  }
}

/** Runs SQL in the container; resolves to what went wrong, or undefined. */
export type SqlRunner = (sql: Uint8Array) => Promise<{ readonly output: string; readonly exitCode: number } | undefined>

/** Runs them in order. Throws MIGRATION_FAILED with the file and what the client said, or what the function threw. */
export async function runMigrations(
  migrations: readonly Migration[],
  started: StartedTestContainer,
  runSql: SqlRunner | undefined,
): Promise<void> {
  for (const migration of migrations) {
    if ('directory' in migration) {
      for (const { path, sql } of await sqlFiles(migration.directory)) {
        if (!runSql) {
          throw new MayflyError('NOT_SUPPORTED', 'This container has no client for .sql files', { field: 'migrations' })
        }
        const failure = await runSql(sql)
        if (failure) throw migrationFailed(started, path, failure)
      }
      continue
    }
    try {
      await migration.run(started)
    } catch (error) {
      throw migrationFailed(started, undefined, { error })
    }
  }
}

function migrationFailed(
  started: StartedTestContainer,
  file: string | undefined,
  { output, exitCode, error }: { readonly output?: string; readonly exitCode?: number; readonly error?: unknown },
): MayflyError {
  const container = started.getName()
  const what = file === undefined ? 'A migration function' : `Migration ${file}`
  const why = error instanceof Error ? error.message : (output?.trim() ?? String(error))
  const facts = {
    container,
    ...(file === undefined ? {} : { file }),
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(output === undefined ? {} : { logTail: output.trim() }),
  }
  const message = output === undefined ? `${what} failed in "${container}": ${why}` : `${what} failed in "${container}"`
  return new MayflyError('MIGRATION_FAILED', message, facts, error === undefined ? {} : { cause: error })
}
