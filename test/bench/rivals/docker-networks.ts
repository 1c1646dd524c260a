/** Networks of Docker, by its API; traffic and names as its containers have them. */

import { timed } from '../measure.ts'
import { dockerApi } from './docker-api.ts'
import type { RivalNetworks } from './rival.ts'

const PORT = 8080
/** Of the name server in every container on a network of its own. */
const NAME_SERVER = '127.0.0.11'

export async function dockerNetworks(
  socket: string,
  docker: (...words: string[]) => Promise<string>,
): Promise<RivalNetworks> {
  const api = dockerApi(socket)
  for (const name of ['bench-one', 'bench-two']) await api.call('POST', '/networks/create', { Name: name })
  const run = ['run', '--detach', '--network', 'bench-one']
  await docker(...run, '--name', 'bench-server', 'bench', '/bin/peer', 'serve', String(PORT))
  await docker(...run, '--name', 'bench-client', 'bench', '/bin/peer', 'wait')
  const peer = async (...words: string[]) => Number(await docker('exec', 'bench-client', '/bin/peer', ...words))
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
  const address = await docker('inspect', '--format', format, 'bench-server')
  return {
    makeAndRemove: {
      name: 'docker',
      round: () =>
        timed(async () => {
          await api.call('POST', '/networks/create', { Name: 'bench-made' })
          await api.call('DELETE', '/networks/bench-made')
        }),
    },
    connect: {
      name: 'docker',
      round: async () => {
        const ms = await timed(() => api.call('POST', '/networks/bench-two/connect', { Container: 'bench-client' }))
        await api.call('POST', '/networks/bench-two/disconnect', { Container: 'bench-client' })
        return ms
      },
    },
    rate: (mode, ms) =>
      mode === 'lookup'
        ? peer('lookup', NAME_SERVER, 'bench-server', String(ms))
        : peer(mode, address, String(PORT), String(ms)),
    [Symbol.asyncDispose]: async () => {
      await docker('rm', '--force', 'bench-server', 'bench-client')
      for (const name of ['bench-one', 'bench-two']) await api.call('DELETE', `/networks/${name}`)
      api[Symbol.dispose]()
    },
  }
}
