/**
 * A process that works on a store, for tests with several of them: `race` makes one layer and ends, `churn` writes and removes until it is
 * killed. Tells what it has done by lines of JSON.
 */

import { createInterface } from 'node:readline'
import { digestOfBytes } from '../../../src/engine/image/digest-of.js'
import { openStore, putImage, putLayer, tarOf, unpackFiles } from './support.js'

const [mode, home, name] = process.argv.slice(2) as [string, string, string]
const at = await openStore(home)
const tell = (fact: unknown) => console.log(JSON.stringify(fact))

if (mode === 'race') {
  tell('ready')
  for await (const _ of createInterface({ input: process.stdin })) break
  process.stdin.destroy() // it would keep this process alive
  const files = { 'race.txt': 'x' }
  let isMaker = false
  const layer = await at.store.layers.ensure(digestOfBytes(tarOf(files)), async (temporary) => {
    isMaker = true
    await new Promise((resolve) => setTimeout(resolve, 100))
    return unpackFiles(at.session, temporary, files)
  })
  tell({ isMaker, chainId: layer.chainId })
  await at.close()
} else {
  const big = 'x'.repeat(200_000)
  for (let round = 0; ; round++) {
    const id = `${name}-${round}`
    await at.store.writing(undefined, async () => {
      const base = await putLayer(at, { 'shared.txt': `${round % 3}` })
      const top = await putLayer(at, { 'own.txt': id, 'big.txt': big }, base.chainId)
      const writer = await at.store.blobs.writer()
      for (let piece = 0; piece < 4; piece++) await writer.write(Buffer.from(id + big))
      const blob = await writer.commit()
      await at.store.layers.addBlob(top.chainId, { ...blob, mediaType: 'application/x' })
      await putImage(at, [base, top], [`app:${id}`, `app:${name}`])
      tell(id)
    })
    if (round % 2 === 1) await at.store.images.remove(`app:${id}`)
    if (round % 5 === 4) await at.store.prune().catch(() => {})
  }
}
