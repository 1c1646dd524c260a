import { expect, test } from 'vitest'
import { Channel } from '../../src/engine/channel.js'

test('hands items over in order and ends', async () => {
  const channel = new Channel<number>({ limit: 10 })
  channel.push(1, 1)
  channel.push(2, 1)
  channel.end()
  const items: number[] = []
  for await (const item of channel) items.push(item)
  expect(items).toEqual([1, 2])
})

test('tells the writer when it is full, and the source when there is room again', async () => {
  let room = 0
  const channel = new Channel<number>({ limit: 4, onRoom: () => room++ })
  expect(channel.push(1, 2)).toBe(true)
  expect(channel.push(2, 2)).toBe(false)
  expect(channel.isFull).toBe(true)
  await channel.next()
  expect(room).toBe(1)
  expect(channel.isFull).toBe(false)
})

test('gives waiting readers their items and the end', async () => {
  const waiting: boolean[] = []
  const channel = new Channel<number>({ limit: 4, onWaiting: (is) => waiting.push(is) })
  const both = Promise.all([channel.next(), channel.next()])
  channel.push(7, 1)
  channel.end()
  expect(await both).toEqual([
    { done: false, value: 7 },
    { done: true, value: undefined },
  ])
  expect(waiting).toEqual([true, false])
})

test('tells an error once, after what came before it', async () => {
  const channel = new Channel<number>({ limit: 4 })
  channel.push(1, 1)
  channel.end(new Error('broken'))
  expect((await channel.next()).value).toBe(1)
  await expect(channel.next()).rejects.toThrow('broken')
  expect((await channel.next()).done).toBe(true)
})

test('drops what comes after the reader has left, and says so once', async () => {
  let cancelled = 0
  const channel = new Channel<number>({ limit: 2, onCancel: () => cancelled++ })
  channel.push(1, 1)
  channel.push(2, 1)
  for await (const item of channel) if (item === 1) break
  await channel.return()
  expect(cancelled).toBe(1)
  expect(channel.push(3, 9)).toBe(true)
  expect((await channel.next()).done).toBe(true)
})
