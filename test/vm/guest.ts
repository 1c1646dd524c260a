/**
 * The disk of a machine: node and other programs of this machine with the libraries that they need, busybox for the rest, this checkout's
 * engine, and the suite. Nothing is installed or fetched for it.
 */

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'
import { makeImage } from './kernel.js'
import { writeSuite } from './suite.js'

/** With where they come from, for who lacks them. */
const PROGRAMS = {
  ip: 'iproute2',
  ss: 'iproute2',
  nft: 'nftables',
  newuidmap: 'uidmap',
  newgidmap: 'uidmap',
  setpriv: 'util-linux',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  script: 'bsdutils',
  ps: 'procps',
  tar: 'tar',
  sh: 'dash', // busybox's own would take its own setpriv and tar for these

  modprobe: 'kmod',
} as const
const ROOM_MEBIBYTES = 3000

const USERS = 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n'
const FILES: Readonly<Record<string, string>> = {
  'etc/passwd': USERS,
  'etc/group': 'root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n',
  'etc/subuid': 'user:100000:65536\n',
  'etc/subgid': 'user:100000:65536\n',
  'etc/hosts': '127.0.0.1 localhost machine\n::1 localhost\n',
  'etc/resolv.conf': 'nameserver 127.0.0.1\n',
  'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
}

/** What is missing here, or undefined. */
export function missingForGuest(): string | undefined {
  if (!existsSync('/bin/busybox')) return 'apt-get install busybox-static'
  const program = Object.keys(PROGRAMS).find((name) => !find(name)) as keyof typeof PROGRAMS | undefined
  return program && `apt-get install ${PROGRAMS[program]}`
}

/** Makes the image. `scratch` is a directory for the tree that goes into it. */
export async function makeGuest(checkout: string, scratch: string, image: string): Promise<void> {
  const tree = join(scratch, 'tree')
  for (const name of [
    'bin',
    'sbin',
    'usr/bin',
    'usr/sbin',
    'usr/local/bin',
    'etc',
    'root',
    'home/user',
    'dev',
    'proc',
    'sys',
    'run',
  ])
    mkdirSync(join(tree, name), { recursive: true })
  for (const name of ['lib/modules', 'tmp', 'var/tmp', 'var/lib', 'work/native/build/test', 'work/node_modules'])
    mkdirSync(join(tree, name), { recursive: true })
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(tree, name), text)
  for (const name of ['tmp', 'var/tmp', 'home/user']) chmodSync(join(tree, name), 0o1777)
  addPrograms(tree)
  const work = join(tree, 'work')
  for (const name of ['package.json', 'src', 'test', 'dist'])
    cpSync(join(checkout, name), join(work, name), { recursive: true })
  copyFileSync(join(checkout, 'test/vm/guest/init'), join(work, 'init'))
  for (const program of ['mayfly-warden', 'test/cgroup_test'])
    copyFileSync(join(checkout, 'native/build', program), join(work, 'native/build', program))
  addVitest(checkout, tree)
  await writeSuite(checkout, work)
  symlinkSync('/work/gcc', join(tree, 'usr/local/bin/gcc'))
  makeImage(tree, image, ROOM_MEBIBYTES)
}

function addPrograms(tree: string): void {
  copyFileSync('/bin/busybox', join(tree, 'bin/busybox'))
  for (const applet of execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n'))
    if (!['busybox', 'sh'].includes(basename(applet))) symlinkSync('/bin/busybox', join(tree, 'bin', basename(applet)))
  for (const path of [process.execPath, ...Object.keys(PROGRAMS).map((name) => find(name)!)]) {
    const place = join(tree, 'usr/bin', basename(path))
    cpSync(path, place, { dereference: true })
    addLibraries(tree, path)
  }
  chmodSync(join(tree, 'usr/bin/newuidmap'), 0o4755)
  chmodSync(join(tree, 'usr/bin/newgidmap'), 0o4755)
  symlinkSync('/usr/bin/sh', join(tree, 'bin/sh'))
  symlinkSync('/usr/bin/modprobe', join(tree, 'sbin/modprobe')) // where the kernel looks
}

/** Those that a program, or a library of node's, is linked with. */
function addLibraries(tree: string, path: string): void {
  const text = execFileSync('ldd', [path], { encoding: 'utf8' })
  for (const [, library = ''] of text.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)) {
    mkdirSync(join(tree, dirname(library)), { recursive: true })
    cpSync(library, join(tree, library), { dereference: true })
  }
}

function find(name: string): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return directories.map((directory) => join(directory, name)).find(existsSync)
}

/** Vitest with what it needs of other packages. */
function addVitest(checkout: string, tree: string): void {
  const wanted = ['vitest']
  for (const name of wanted) {
    const from = join(checkout, 'node_modules', name)
    if (!existsSync(from)) continue // of another platform
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      readFileSync(join(from, 'package.json'), 'utf8'),
    )
    for (const other of Object.keys({ ...dependencies, ...optionalDependencies }))
      if (!wanted.includes(other) && !other.startsWith('@types/')) wanted.push(other)
    cpSync(from, join(tree, 'work/node_modules', name), { recursive: true })
    for (const file of readdirSync(from)) if (file.endsWith('.node')) addLibraries(tree, join(from, file))
  }
}
