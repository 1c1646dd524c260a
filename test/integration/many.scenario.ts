/** A process that starts containers with one volume, side by side and again and again, until it is killed. */

import { Engine } from '../../src/index.js'

const [home, directory] = process.argv.slice(2) as [string, string]
const engine = await Engine.open({ home })
console.log('"open"')
for (let turn = 0; ; turn++) {
  await Promise.all(
    Array.from({ length: 4 }, () =>
      engine.run({
        rootfs: { directory },
        command: ['sh', '-c', 'test $(ls /seeds | wc -l) -ge 200 && echo . >>/seeds/count'],
        mounts: [
          { type: 'volume', source: 'contested', target: '/seeds' },
          { type: 'volume', source: `own-${process.pid}-${turn}`, target: '/own' },
        ],
      }),
    ),
  )
  console.log(String(turn))
}
