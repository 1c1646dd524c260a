/** Secrets and ssh agents that a build was given, read when a step needs them. */

import { readFile } from 'node:fs/promises'
import { MayflyError } from '../errors.js'
import type { BuildOptions } from './options.js'

/** As docker. */
const MAX_SECRET_BYTES = 500 * 1024

/** The content of a secret; undefined when it was not given. Throws SECRET_NOT_FOUND where its source is missing or too large. */
export async function readSecret(id: string, secrets: BuildOptions['secrets']): Promise<Buffer | undefined> {
  if (!secrets || !Object.hasOwn(secrets, id)) return undefined
  const source = secrets[id]!
  const content = await contentOf(id, source)
  if (content.length > MAX_SECRET_BYTES) {
    throw new MayflyError(
      'SECRET_NOT_FOUND',
      `Secret "${id}" is ${content.length} bytes long, at most ${MAX_SECRET_BYTES} are possible`,
      {
        value: id,
      },
    )
  }
  return content
}

async function contentOf(id: string, source: NonNullable<BuildOptions['secrets']>[string]): Promise<Buffer> {
  if ('value' in source) return Buffer.from(source.value)
  if ('env' in source) {
    const value = process.env[source.env]
    if (value !== undefined) return Buffer.from(value)
    throw new MayflyError('SECRET_NOT_FOUND', `Secret "${id}": the environment variable ${source.env} is not set`, {
      value: id,
    })
  }
  try {
    return await readFile(source.file)
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException
    throw new MayflyError(
      'SECRET_NOT_FOUND',
      `Secret "${id}" cannot be read: ${message}`,
      { value: id, ...(code ? { errno: code } : {}) },
      { cause: error },
    )
  }
}

/** The socket of an ssh agent; undefined when it was not given. */
export function agentSocket(id: string, ssh: BuildOptions['ssh']): string | undefined {
  if (!ssh || !Object.hasOwn(ssh, id)) return undefined
  const given = ssh[id]
  return given === true ? process.env.SSH_AUTH_SOCK || undefined : given
}
