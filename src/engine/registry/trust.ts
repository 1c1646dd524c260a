/** Whom to trust for TLS: node's authorities, NODE_EXTRA_CA_CERTS, docker's /etc/docker/certs.d/<host>/ and the caller's. */

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as tls from 'node:tls'
import { MayflyError } from '../errors.js'

export interface Trust {
  readonly ca?: readonly string[]
  readonly cert?: string
  readonly key?: string
}

const CERTIFICATE_DIRECTORIES = ['/etc/docker/certs.d', '/etc/containers/certs.d']

/**
 * What to trust and to show when talking to `host` (`registry.example:5000`). An empty object means node's own defaults, which
 * keep NODE_EXTRA_CA_CERTS.
 *
 * `*.crt` files are authorities; `*.cert` with the `*.key` of the same name is the client's own certificate.
 */
export async function trustFor(
  host: string,
  ca: string | readonly string[] | undefined,
  directories: readonly string[] = CERTIFICATE_DIRECTORIES,
): Promise<Trust> {
  const authorities = typeof ca === 'string' ? [ca] : [...(ca ?? [])]
  let own: { cert: string; key: string } | undefined
  for (const parent of directories) {
    const directory = join(parent, host)
    const names: string[] = await readdir(directory).catch(() => [])
    for (const name of names.sort()) {
      const path = join(directory, name)
      if (name.endsWith('.crt')) authorities.push(await read(path))
      if (!name.endsWith('.cert')) continue
      const key = `${name.slice(0, -'.cert'.length)}.key`
      if (!names.includes(key))
        throw new MayflyError('REGISTRY_CERTIFICATE', `${path} has no ${key} beside it`, { field: path })
      own ??= { cert: await read(path), key: await read(join(directory, key)) }
    }
  }
  return {
    // A list replaces node's own, so that has to be in it.
    ...(authorities.length > 0 ? { ca: [...(await nodeAuthorities()), ...authorities] } : {}),
    ...own,
  }
}

async function nodeAuthorities(): Promise<readonly string[]> {
  // Node 22.15 and newer can tell what it uses; before, it is what is built in and what NODE_EXTRA_CA_CERTS names.
  const { getCACertificates } = tls as { readonly getCACertificates?: (type: string) => string[] }
  if (getCACertificates) return getCACertificates('default')
  const extra = process.env.NODE_EXTRA_CA_CERTS
  return [...tls.rootCertificates, ...(extra ? [await readFile(extra, 'utf8').catch(() => '')] : [])]
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new MayflyError(
      'REGISTRY_CERTIFICATE',
      `Cannot read ${path}: ${(error as Error).message}`,
      { field: path },
      {
        cause: error,
      },
    )
  }
}
