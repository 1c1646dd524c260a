import { describe, expect, test } from 'vitest'
import { GenericContainer, Volume } from '../../src/index.js'
import { IMAGE, libraryWorld, obstacle } from './support/world.js'

describe.skipIf(obstacle())('a volume', () => {
  const opened = libraryWorld()
  const sleeper = new GenericContainer(IMAGE).withCommand(['sleep', '600'])

  test('is there for several containers, and gone with what was in it once it is stopped', async () => {
    const data = await new Volume({ name: 'shared-data' }).start()
    const user = sleeper.withVolumes({ volume: data, target: '/data' })
    {
      await using one = await user.start()
      await using two = await user.start()
      await one.exec(['sh', '-c', 'echo kept >/data/a'])
      expect((await two.exec(['cat', '/data/a'])).stdout).toBe('kept\n')
      await expect(data.stop()).rejects.toMatchObject({ code: 'VOLUME_IN_USE', value: 'shared-data' })
    }
    await data.stop()
    await data.stop()
    expect(await opened.engine.volumes.list()).toEqual([])
  })

  test('of somebody else is neither taken nor removed: it is mounted by its name', async () => {
    await opened.engine.volumes.create({ name: 'theirs' })
    await expect(new Volume({ name: 'theirs' }).start()).rejects.toMatchObject({
      code: 'NAME_TAKEN',
      field: 'volume.name',
      value: 'theirs',
      message: expect.stringContaining('mount it by its name'),
    })
    {
      await using container = await sleeper.withVolumes({ volume: 'theirs', target: '/data' }).start()
      expect((await container.exec(['touch', '/data/a'])).exitCode).toBe(0)
    }
    expect((await opened.engine.volumes.list()).map(({ name }) => name)).toEqual(['theirs'])
    await opened.engine.volumes.remove('theirs')
  })

  test('is made by one of those who want the name at the same time', async () => {
    const starts = Array.from({ length: 8 }, () => new Volume({ name: 'wanted' }).start())
    const outcomes = await Promise.allSettled(starts)
    const made = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    const errors = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : []))
    expect([made.length, new Set(errors)]).toEqual([1, new Set(['NAME_TAKEN'])])
    await made[0]!.stop()
    await (await new Volume({ name: 'wanted' }).start()).stop()
  })

  test('refuses what is no name', async () => {
    await expect(new Volume({ name: 'a/b' }).start()).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
})
