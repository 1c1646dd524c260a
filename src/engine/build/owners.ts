/** Users and groups by the names that an image has for them. */

import { receiveArchive } from '../archive.js'
import { MayflyError } from '../errors.js'
import type { Session } from '../session.js'
import type { Workspace } from '../workspace.js'
import type { Owner } from './copy-records.js'
import { realPath } from './source-tree.js'

const MAX_FILE_BYTES = 16 * 1024 * 1024
const BLOCK_BYTES = 512

/** Whether ids are given as numbers, so that no image has to be asked. */
export function isNumeric({ user, group }: { readonly user: string; readonly group: string | undefined }): boolean {
  return /^\d*$/.test(user) && (group === undefined || /^\d*$/.test(group))
}

/**
 * The ids of a user and a group; no user is root. Without a group: the number of the user where `isCopy`, as COPY --chown has it; else the user's
 * own group. `root` is 0 also where the image has no file that says so, as in an image from scratch.
 *
 * Throws USER_NOT_FOUND and GROUP_NOT_FOUND.
 */
export async function resolveOwner(
  session: Session,
  workspace: Workspace,
  names: { readonly user: string; readonly group: string | undefined },
  isCopy: boolean,
  signal?: AbortSignal,
): Promise<Owner> {
  const user = names.user || '0'
  const group = names.group === '' ? (isCopy ? '0' : undefined) : names.group
  const isKnownUser = /^\d+$/.test(user)
  const line = isKnownUser ? undefined : await lineOf(session, workspace, 'etc/passwd', user, signal)
  if (!isKnownUser && !line) {
    throw new MayflyError('USER_NOT_FOUND', `There is no user "${user}" in the image's /etc/passwd`, { value: user })
  }
  const uid = id(isKnownUser ? user : line![2], user)
  if (group === undefined) return { uid, gid: isCopy || isKnownUser ? uid : id(line![3], user) }
  if (/^\d+$/.test(group)) return { uid, gid: id(group, group) }
  const found = await lineOf(session, workspace, 'etc/group', group, signal)
  if (!found) {
    throw new MayflyError('GROUP_NOT_FOUND', `There is no group "${group}" in the image's /etc/group`, { value: group })
  }
  return { uid, gid: id(found[2], group) }
}

function id(text: string | undefined, name: string): number {
  const number = Number(text)
  if (text === undefined || !/^\d+$/.test(text) || number > 0xfffffffe) {
    throw new MayflyError('USER_NOT_FOUND', `"${name}" has no usable id: ${JSON.stringify(text)}`, { value: name })
  }
  return number
}

const ROOT: readonly string[] = ['root', 'x', '0', '0']

/** The line of this name in a file of accounts. */
async function lineOf(
  session: Session,
  workspace: Workspace,
  path: string,
  name: string,
  signal?: AbortSignal,
): Promise<readonly string[] | undefined> {
  const lines = (await readColons(session, workspace, path, signal)) ?? [ROOT]
  return lines.find(([first]) => first === name)
}

/** undefined: there is no such file. */
async function readColons(
  session: Session,
  workspace: Workspace,
  path: string,
  signal?: AbortSignal,
): Promise<readonly (readonly string[])[] | undefined> {
  const real = await realPath(workspace, path, true, signal)
  if (!real.entry) return undefined
  if (real.entry.type !== 'f' || real.entry.size > MAX_FILE_BYTES) return []
  const words = ['id', workspace.id, 'path', `/${real.path}`]
  const pieces: Uint8Array[] = []
  for await (const piece of receiveArchive(session, words, { verb: 'read', container: `/${path}` }, signal))
    pieces.push(piece)
  return fileOfArchive(Buffer.concat(pieces))
    .split('\n')
    .map((line) => line.split(':'))
}

/** The content of the one file in an archive that the warden has made. */
function fileOfArchive(archive: Buffer): string {
  for (let offset = 0; offset + BLOCK_BYTES <= archive.length; ) {
    const header = archive.subarray(offset, offset + BLOCK_BYTES)
    const size = Number.parseInt(header.toString('latin1', 124, 136), 8) || 0
    const type = String.fromCharCode(header[156]!)
    offset += BLOCK_BYTES
    if (type === '0' || type === '\0') return archive.toString('utf8', offset, offset + size)
    offset += Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES
  }
  return ''
}
