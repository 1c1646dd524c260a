/** Docker's REST API, for what its command line would take longer to be started than to do. */

import { Agent, request } from 'node:http'

export interface DockerApi extends Disposable {
  /** Resolves to the answer, parsed; undefined where there is none. */
  call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown>
}

export function dockerApi(socketPath: string): DockerApi {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  return {
    call: (method, path, body) =>
      new Promise((resolve, reject) => {
        const text = body === undefined ? '' : JSON.stringify(body)
        const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
        const sent = request({ socketPath, agent, method, path, headers }, (response) => {
          let answer = ''
          response.setEncoding('utf8').on('data', (piece: string) => {
            answer += piece
          })
          response.on('end', () => {
            const { statusCode = 0 } = response
            if (statusCode >= 400) reject(new Error(`${method} ${path}: ${statusCode} ${answer}`))
            else resolve(answer === '' ? undefined : JSON.parse(answer))
          })
        })
        sent.on('error', reject).end(text)
      }),
    [Symbol.dispose]: () => agent.destroy(),
  }
}
