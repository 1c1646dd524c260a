/**
 * The socket that `RUN --mount=type=ssh` shows to a step: a relay to the agent, so that owner and mode can be what the step needs while the
 * agent's own socket stays as it is.
 */

import { closeSync, constants, openSync } from 'node:fs'
import { chmod, chown, mkdir } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { BuildContext } from './context.js'

export interface AgentSocket {
  /** Path of the socket on the host. */
  readonly path: string
  close(): Promise<void>
}

export async function openAgentSocket(
  { store }: BuildContext,
  agent: string,
  owner: { readonly mode: number; readonly uid: number; readonly gid: number },
): Promise<AgentSocket> {
  const directory = await store.temporary()
  await mkdir(directory, { mode: 0o700 })
  // The path of a socket has 107 bytes at most; through the descriptor it is short wherever the store lies.
  const descriptor = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(agent)
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
    client.pipe(upstream).pipe(client)
  })
  const path = join(directory, 'agent')
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(`/proc/self/fd/${descriptor}/agent`, resolve)
    })
    server.unref()
    await chmod(path, owner.mode)
    if (process.getuid?.() === 0) await chown(path, owner.uid, owner.gid)
  } catch (error) {
    server.close()
    closeSync(descriptor)
    await store.discard(directory)
    throw error
  }
  return {
    path,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
      closeSync(descriptor)
      await store.discard(directory)
    },
  }
}
