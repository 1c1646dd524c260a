/**
 * An engine with two containers, in the network namespace that network.test.ts made: runs what each line of stdin says in one, or
 * behind the word `@six` in the other, which is on a network with IPv6.
 */

import { createInterface } from 'node:readline'
import { Engine } from '../../src/index.ts'

export interface Settings {
  readonly home: string
  readonly rootfs: string
}

const { home, rootfs }: Settings = JSON.parse(process.argv[2]!)
const say = (fact: unknown) => process.stdout.write(`${JSON.stringify(fact)}\n`)
const engine = await Engine.open({ home })
const container = await engine.start({ rootfs: { directory: rootfs }, command: ['sleep', '1000'], name: 'client' })
const networks = [await engine.networks.create({ name: 'six', ipv6: true }).then(({ name }) => name)]
const six = await engine.start({ rootfs: { directory: rootfs }, command: ['sleep', '1000'], name: 'six', networks })
say({ address: container.address, addressV6: six.ipv6AddressOn('six'), ...engine.info })
for await (const line of createInterface({ input: process.stdin })) {
  const words: string[] = JSON.parse(line)
  say(words[0] === '@six' ? await six.exec(words.slice(1)) : await container.exec(words))
}
await engine.close()
