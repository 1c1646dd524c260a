/** The door for mounts: binds, volumes, images, memory, and what another container has. */

import { posix } from 'node:path'
import { referenceName, volumeName } from './attachment.js'
import {
  boolean,
  type Check,
  defaulted,
  integer,
  list,
  member,
  oneOf,
  optional,
  record,
  refuse,
  shape,
  string,
} from './check.js'
import type { CompleteMount, CompleteVolumesFrom } from './complete.js'

/** An absolute path, without `.`, `..` and doubled slashes. */
export const absolutePath: Check<string> = (value, field) => {
  const text = string(value, field)
  if (!text.startsWith('/')) return refuse(field, text, 'expected an absolute path')
  const path = posix.normalize(text)
  return path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path
}

/**
 * /proc must be what the kernel says (CVE-2019-19921, CVE-2025-52881); the warden refuses it too, where a symlink leads there. What lies
 * in /sys may be covered, such as /sys/fs/cgroup, but not all of it.
 */
const mountTarget: Check<string> = (value, field) => {
  const path = absolutePath(value, field)
  if (path === '/') return refuse(field, value, 'nothing can be mounted over the root')
  if (path === '/sys') return refuse(field, value, 'nothing can be mounted over /sys')
  const isOfProc = path === '/proc' || path.startsWith('/proc/')
  return isOfProc ? refuse(field, value, 'nothing can be mounted over /proc') : path
}

/** A path inside a volume or an image. */
const subpath: Check<string> = (value, field) => {
  const path = posix.normalize(string(value, field)).replace(/^\/+|\/+$/g, '')
  if (path === '' || path === '.') return refuse(field, value, 'expected a path inside it')
  return path === '..' || path.startsWith('../') ? refuse(field, value, 'expected a path that stays inside it') : path
}

const EMPTY: Readonly<Record<string, string>> = Object.freeze({})

const PROPAGATIONS = ['rprivate', 'private', 'rslave', 'slave'] as const

const propagation: Check<(typeof PROPAGATIONS)[number]> = (value, field) => {
  if (value === 'rshared' || value === 'shared') {
    const why = 'mounts made in a container never reach this machine'
    return refuse(field, value, why, `expected ${PROPAGATIONS.join(', ')}`, 'NOT_SUPPORTED')
  }
  return oneOf(...PROPAGATIONS)(value, field)
}

const bindShape = shape({
  type: oneOf('bind'),
  source: absolutePath,
  target: mountTarget,
  readonly: defaulted(boolean, false),
  propagation: defaulted(propagation, 'rprivate' as const),
  createSource: defaulted(boolean, false),
  recursive: defaulted(boolean, true),
})

const volumeShape = shape({
  type: oneOf('volume'),
  source: optional(volumeName),
  target: mountTarget,
  readonly: defaulted(boolean, false),
  noCopy: defaulted(boolean, false),
  subpath: optional(subpath),
  labels: optional(record(string, string)),
})

const imageShape = shape({
  type: oneOf('image'),
  source: string,
  target: mountTarget,
  subpath: optional(subpath),
})

const tmpfsShape = shape({
  type: oneOf('tmpfs'),
  target: mountTarget,
  sizeBytes: optional(integer(1)),
  mode: optional(integer(0, 0o7777)),
  options: defaulted(list(string), Object.freeze([])),
})

/** A volume without a name is a directory of the container's own, as those of images are. */
type Given = CompleteMount | { readonly type: 'anonymous'; readonly target: string }

export const mount: Check<Given> = (value, field) => {
  const type = (value as { type?: unknown } | null | undefined)?.type
  if (type === 'bind') return bindShape(value, field)
  if (type === 'volume') return volume(value, field)
  if (type === 'image') return Object.freeze({ ...imageShape(value, field), layers: Object.freeze([]), id: '' })
  if (type !== 'tmpfs') {
    return refuse(member(field, 'type'), type, "expected 'bind', 'volume', 'image' or 'tmpfs'")
  }
  const { target, sizeBytes, mode, options } = tmpfsShape(value, field)
  const sized = [
    ...options,
    ...(sizeBytes === undefined ? [] : [`size=${sizeBytes}`]),
    ...(mode === undefined ? [] : [`mode=${mode.toString(8)}`]),
  ]
  return temporary(target, sized, member(field, 'options'))
}

function volume(value: unknown, field: string): Given {
  const { source, labels = EMPTY, ...rest } = volumeShape(value, field)
  if (source !== undefined) return Object.freeze({ ...rest, source, labels })
  if (labels !== EMPTY) refuse(member(field, 'labels'), labels, 'is of use only with a named volume')
  for (const option of ['readonly', 'noCopy', 'subpath'] as const) {
    if (rest[option]) refuse(member(field, option), rest[option], 'is of use only with a named volume')
  }
  return Object.freeze({ type: 'anonymous', target: rest.target })
}

/** `docker run --tmpfs /run:rw,size=64m`, as an object. */
export const tmpfsShorthand: Check<readonly CompleteMount[]> = (value, field) =>
  Object.freeze(
    Object.entries(record(string, string)(value, field)).map(([path, options]) => {
      const at = member(field, path)
      const words = options.split(',').filter((word) => word !== '')
      return temporary(mountTarget(path, at), words, at)
    }),
  )

/** Flags in pairs: the later of the two wins, and the first of a pair needs no word. */
const FLAG_PAIRS: Readonly<Record<string, string>> = { rw: 'ro', suid: 'nosuid', dev: 'nodev', exec: 'noexec' }
const OTHER_FLAGS = ['noatime', 'relatime', 'strictatime']
const TMPFS_DATA =
  /^(size=\d+[kKmMgG%]?|nr_blocks=\d+[kKmMgG]?|nr_inodes=\d+[kKmMgG]?|mode=0?[0-7]{1,4}|[ug]id=\d{1,10}|huge=(never|always|within_size|advise))$/

/** Flags begin as Docker's: nosuid, nodev, noexec. */
function temporary(target: string, words: readonly string[], field: string): CompleteMount {
  const flags = new Set(['nosuid', 'nodev', 'noexec'])
  const data = new Map<string, string>()
  for (const word of words) {
    const opposite = Object.hasOwn(FLAG_PAIRS, word) ? FLAG_PAIRS[word] : undefined
    if (opposite) flags.delete(opposite)
    else if (Object.values(FLAG_PAIRS).includes(word) || OTHER_FLAGS.includes(word)) flags.add(word)
    else if (TMPFS_DATA.test(word)) data.set(word.split('=')[0]!, word)
    else refuse(field, word, 'expected options of tmpfs such as noexec, size=64m or mode=1777')
  }
  return Object.freeze({
    type: 'tmpfs',
    target,
    flags: Object.freeze([...flags]),
    data: Object.freeze([...data.values()]),
  })
}

export function checkMountTargets(mounts: readonly { readonly target: string }[]): void {
  const seen = new Set<string>()
  for (const [index, { target }] of mounts.entries()) {
    if (seen.has(target)) refuse(`mounts[${index}].target`, target, 'expected one mount for each target')
    seen.add(target)
  }
}

const volumesFromShape = shape({ container: referenceName, readonly: defaulted(boolean, false) })

/** A container by name or id, as `docker run --volumes-from` takes it: `db` or `db:ro`. */
export const volumesFrom: Check<CompleteVolumesFrom> = (value, field) => {
  if (typeof value !== 'string') return volumesFromShape(value, field)
  const [container, mode, ...rest] = value.split(':')
  const isMode = mode === undefined || mode === 'ro' || mode === 'rw'
  if (!isMode || rest.length > 0) return refuse(field, value, "expected a container's name, or with ':ro'")
  return volumesFromShape({ container, readonly: mode === 'ro' }, field)
}
