import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { unlessAborted, waitUntil } from '../../src/engine/deadline.js'

const timeout = (ms: number) => new Error(`late after ${ms}`)

test('resolves and unsubscribes once', async () => {
  let unsubscribed = 0
  const value = await waitUntil<number>({}, timeout, (resolve, reject) => {
    setTimeout(() => {
      resolve(1)
      resolve(2)
      reject(new Error('too late'))
    }, 1)
    return () => unsubscribed++
  })
  expect([value, unsubscribed]).toEqual([1, 1])
})

test('unsubscribes also when the outcome comes while subscribing', async () => {
  let unsubscribed = 0
  const wait = waitUntil<number>({}, timeout, (resolve) => {
    resolve(1)
    return () => unsubscribed++
  })
  expect(await wait).toBe(1)
  expect(unsubscribed).toBe(1)
})

test('rejects at the timeout', async () => {
  await expect(waitUntil({ timeoutMs: 5 }, timeout, () => () => {})).rejects.toThrow('late after 5')
})

test('rejects with the reason of the signal, before and while waiting', async () => {
  const signal = AbortSignal.abort(new Error('enough'))
  await expect(waitUntil({ signal }, timeout, () => () => {})).rejects.toThrow('enough')
  const controller = new AbortController()
  const wait = waitUntil({ signal: controller.signal }, timeout, () => () => {})
  controller.abort(new Error('later'))
  await expect(wait).rejects.toThrow('later')
})

test('refuses a timeout that is no time', async () => {
  await expect(waitUntil({ timeoutMs: -1 }, timeout, () => () => {})).rejects.toThrow(RangeError)
  await expect(waitUntil({ timeoutMs: Number.NaN }, timeout, () => () => {})).rejects.toThrow(RangeError)
})

test('ends the wait for a promise with the reason of the signal, before and while waiting', async () => {
  const signal = AbortSignal.abort(new Error('enough'))
  await expect(unlessAborted(Promise.resolve(1), signal)).rejects.toThrow('enough')
  const controller = new AbortController()
  const wait = unlessAborted(new Promise(() => {}), controller.signal)
  controller.abort(new Error('later'))
  await expect(wait).rejects.toThrow('later')
})

test('gives what the promise comes to, and leaves nothing at the signal', async () => {
  const { signal } = new AbortController()
  expect(await unlessAborted(Promise.resolve(1), signal)).toBe(1)
  await expect(unlessAborted(Promise.reject(new Error('failed')), signal)).rejects.toThrow('failed')
  expect(await unlessAborted(Promise.resolve(2))).toBe(2)
  expect(getEventListeners(signal, 'abort')).toEqual([])
})
