/** An engine with one container, in the network namespace that network.test.ts made: runs what each line of stdin says in it. */

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
say({ address: container.address, ...engine.info })
for await (const line of createInterface({ input: process.stdin })) say(await container.exec(JSON.parse(line)))
await engine.close()
