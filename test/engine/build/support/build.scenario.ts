/** A build in a process of its own, to be killed: argv has the world's directory and the Dockerfile. */

import { openWorld } from './world.js'

const [directory = '', dockerfile = ''] = process.argv.slice(2)
const world = await openWorld(directory)
const say = (fact: unknown) => process.stdout.write(`${JSON.stringify(fact)}\n`)
const { executed, cached, image } = await world.build({
  context: { dockerfile },
  onEvent: (event) => {
    if (event.type === 'output') say({ output: Buffer.from(event.data).toString() })
  },
})
say({ executed, cached, id: image.id })
await world[Symbol.asyncDispose]()
