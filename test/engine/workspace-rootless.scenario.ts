/** What workspace-rootless.test.ts does as an ordinary user: copies, runs a step, keeps it, runs another on top. Tells what it found. */

import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { newId } from '../../src/engine/ids.ts'
import { Session } from '../../src/engine/session.ts'
import { wardenProgram } from '../../src/engine/where.ts'
import type { ExitEvent } from '../../src/engine/wire.ts'
import { keepContainer, Workspace } from '../../src/engine/workspace.ts'

const [rootfs, directory] = process.argv.slice(2) as [string, string]
const home = join(directory, 'home')
const from = join(directory, 'from')
mkdirSync(home)
mkdirSync(from)
writeFileSync(join(from, 'file'), 'copied', { mode: 0o755 })
symlinkSync('file', join(from, 'link'))

const session = await Session.open({ home, program: wardenProgram(), network: false })
session.hold() // an exit that is waited for does not keep node alive by itself
const exits = new Map<string, (event: ExitEvent) => void>()
session.listen({
  exited: (event) => exits.get(event.container)?.(event),
  listening: () => {},
  warned: () => {},
  failed: () => {},
})

async function step(layers: readonly string[], command: string, target: string): Promise<boolean> {
  const id = newId()
  const exited = new Promise<ExitEvent>((resolve) => exits.set(id, resolve))
  const words = ['id', id, 'net', 'none', ...layers.flatMap((layer) => ['layer', layer]), 'env', 'PATH=/bin']
  const files = ['file', '/etc/hosts', 'content', 'h', 'file', '/run/secret', 'content', 's', 'mode', '0400']
  const mounts = ['mount', 'proc', 'target', '/proc', 'mount', 'tmpfs', 'target', '/cache/deep']
  const program = ['arg', '/bin/sh', 'arg', '-ec', 'arg', command]
  const reply = await session.request('run', [...words, ...mounts, ...files, ...program])
  if (!reply.ok) throw new Error(JSON.stringify(reply))
  const { code } = await exited
  if (code !== 0) throw new Error(`"${command}" ended with ${code}`)
  return (await keepContainer(session, id, target)).empty
}

const workspace = await Workspace.open(session, [rootfs])
await workspace.transfer({ directory: from }, [
  { source: 'file', destination: '/app/file', uid: 7, gid: 8 },
  { source: 'link', destination: '/app/link' },
])
const listed: string[] = []
for await (const { type, path, mode, uid } of workspace.list('/app'))
  listed.push(`${type} ${path} ${mode.toString(8)} ${uid}`)
const target = (name: string) => join(home, name)
await workspace.keep(target('a'))
const layers = [join(target('a'), 'tree'), rootfs]
const isEmpty = await step(layers, 'test "$(cat /app/link)" = copied; test "$(cat /run/secret)" = s', target('none'))
await step(layers, 'rm -rf /app; mkdir /app; echo new > /app/new; rm /etc/group', target('b'))
await step(
  [join(target('b'), 'tree'), ...layers],
  'ls /app > /seen; ls /etc/group >> /seen 2>&1 || echo none >> /seen',
  target('c'),
)
const facts = {
  ids: session.facts.ids,
  listed,
  isEmpty,
  seen: readFileSync(join(target('c'), 'tree/seen'), 'utf8').replace(/ls:.*\n/, ''),
  second: readdirSync(join(target('b'), 'tree')).sort(),
  fileMode: (statSync(join(target('a'), 'tree/app/file')).mode & 0o7777).toString(8),
}
session.release()
await session.close()
console.log(JSON.stringify(facts))
