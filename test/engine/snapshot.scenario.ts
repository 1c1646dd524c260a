/** Begins to prepare a state and is killed in the middle of it. */

import { Engine } from '../../src/engine/engine.js'

const [home, image] = process.argv.slice(2) as [string, string]
const engine = await Engine.open({ home })
await engine.prepared.ensure('killed', async () => {
  const container = await engine.start({ image, command: ['sleep', '60'] })
  await container.exec(['sh', '-c', 'echo half > /root/half'])
  console.log('"half"')
  await new Promise((resolve) => setTimeout(resolve, 60_000))
  return container
})
