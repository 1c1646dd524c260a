const { redis } = require('mayfly/fixtures/redis')
const { useContainer } = require('mayfly/jest')

const cache = useContainer(redis(process.env.REDIS))

test('stays until it is killed', async () => {
  process.stderr.write(`it runs with ${cache.getId()}\n`)
  await new Promise((resolve) => setTimeout(resolve, 100_000))
}, 120_000)
