import { beforeEach, expect, test } from 'vitest'
import { GenericContainer, type StartedTestContainer } from '../../src/index.js'
import { ContainerGroup } from '../../src/runner/group.js'

interface Told {
  succeed(): void
  fail(error: Error): void
}

/** Starts when it is told to. */
class Fake extends GenericContainer {
  /** In objects, which the copy that is started shares. */
  readonly starts: Told[] = []
  readonly running = new Set<object>()

  override start(): Promise<StartedTestContainer> {
    return new Promise((resolve, reject) => {
      const started = { stop: async () => this.running.delete(started) } as unknown as StartedTestContainer
      const succeed = () => {
        this.running.add(started)
        resolve(started)
      }
      this.starts.push({ succeed, fail: reject })
    })
  }
}

let group: ContainerGroup
let one: Fake
let other: Fake
let dependent: Fake

beforeEach(() => {
  group = new ContainerGroup()
  one = new Fake('one')
  other = new Fake('other')
  dependent = new Fake('dependent').dependsOn(one, other)
})

const hasBegun = (fake: Fake, times: number) => expect.poll(() => fake.starts.length).toBe(times)

test('keeps a container while somebody holds on to it, and starts it once', async () => {
  const acquired = [group.acquire(one), group.acquire(one)]
  await hasBegun(one, 1)
  one.starts[0]!.succeed()
  const [first, second] = await Promise.all(acquired)
  expect(first).toBe(second)
  await group.release(one)
  expect(one.running.size).toBe(1)
  await group.release(one)
  expect(one.running.size).toBe(0)
})

test('lets go of dependencies with what depends on them', async () => {
  const acquired = group.acquire(dependent)
  for (const fake of [one, other, dependent]) {
    await hasBegun(fake, 1)
    fake.starts[0]!.succeed()
  }
  await acquired
  await group.release(dependent)
  expect([one.running.size, other.running.size, dependent.running.size]).toEqual([0, 0, 0])
})

test('lets go of the dependencies that run when another one fails', async () => {
  const acquired = group.acquire(dependent)
  await hasBegun(other, 1)
  one.starts[0]!.fail(new Error('no such image'))
  other.starts[0]!.succeed()
  await expect(acquired).rejects.toThrow('no such image')
  expect(other.running.size).toBe(0)
})

test('leaves alone a dependency that failed and that somebody else has begun again', async () => {
  const acquired = group.acquire(dependent)
  await hasBegun(other, 1)
  one.starts[0]!.fail(new Error('no such image'))
  await expect(group.begin(one)).rejects.toThrow('no such image')

  const again = group.acquire(one)
  await hasBegun(one, 2)
  one.starts[1]!.succeed()
  const started = await again
  other.starts[0]!.succeed()

  await expect(acquired).rejects.toThrow('no such image')
  expect(other.running.size).toBe(0)
  expect(one.running.has(started)).toBe(true)
  await group.release(one)
  expect(one.running.size).toBe(0)
})

test('leaves alone what was begun again after all was closed', async () => {
  const acquired = group.acquire(dependent)
  await hasBegun(other, 1)
  one.starts[0]!.succeed()
  await group.begin(one)
  const closed = group.close()
  const again = group.acquire(one)
  await hasBegun(one, 2)
  one.starts[1]!.succeed()
  const started = await again
  other.starts[0]!.fail(new Error('given up'))

  await expect(acquired).rejects.toThrow('given up')
  await closed
  expect(one.running.size).toBe(1)
  expect(one.running.has(started)).toBe(true)
})
