import { createHash } from 'node:crypto'
import { mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Store, storeHome } from '../../../src/engine/store/store.js'
import { temporaryDirectory } from '../../support/temporary.js'
import { openStore } from './support.js'

let directory: string

beforeEach(async () => {
  directory = temporaryDirectory('store')
})

afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(directory, { recursive: true })
})

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

test('takes what is given, then MAYFLY_HOME, then the default', () => {
  vi.stubEnv('MAYFLY_HOME', '/from/environment')
  expect(storeHome('/given')).toBe('/given')
  expect(storeHome()).toBe('/from/environment')
  vi.stubEnv('MAYFLY_HOME', '')
  vi.stubEnv('XDG_DATA_HOME', '/data')
  expect(storeHome()).toBe(process.getuid?.() === 0 ? '/var/lib/mayfly' : '/data/mayfly')
})

test('refuses a home whose socket would have too long a path', () => {
  const home = `/${'x'.repeat(100)}`
  expect(() => storeHome(home)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', field: 'home', value: home }))
})

test('gives up on a home where nothing can be made, /proc included, of which node would never give up', async () => {
  for (const home of ['/proc/mayfly', '/etc/passwd/mayfly']) {
    await expect(new Store(home).prepare()).rejects.toMatchObject({ code: expect.stringMatching(/ENOENT|ENOTDIR/) })
  }
})

test('refuses a relative home', () => {
  expect(() => storeHome('here')).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
})

test('digests a file once, and anew when it changes', async () => {
  const { store, close } = await openStore(join(directory, 'home'))
  const file = join(directory, 'file')
  await writeFile(file, 'one')
  expect(await store.digestOf(file)).toBe(sha256('one'))
  // The recorded digest is believed: a second process need not read the file.
  const entries = await readdir(join(store.home, 'cache', 'digests'))
  await writeFile(join(store.home, 'cache', 'digests', entries[0]!), 'f'.repeat(64))
  expect(await store.digestOf(file)).toBe('f'.repeat(64))
  await writeFile(file, 'two')
  expect(await store.digestOf(file)).toBe(sha256('two'))
  // Same size, time set back: the time of change still tells.
  await writeFile(file, 'six')
  await utimes(file, 1, 1)
  expect(await store.digestOf(file)).toBe(sha256('six'))
  await close()
})

test('takes no notice of a record that is not whole', async () => {
  const { store, close } = await openStore(join(directory, 'home'))
  const file = join(directory, 'file')
  await writeFile(file, 'one')
  await store.digestOf(file)
  const [entry] = await readdir(join(store.home, 'cache', 'digests'))
  await writeFile(join(store.home, 'cache', 'digests', entry!), 'ab')
  expect(await store.digestOf(file)).toBe(sha256('one'))
  await close()
})

test('can be read without a session, and says so when it is written to', async () => {
  const home = join(directory, 'home')
  const store = new Store(home)
  expect(await store.images.list()).toEqual([])
  expect(await store.images.resolve('postgres')).toBeUndefined()
  await store.prepare()
  expect(await store.images.list()).toEqual([])
  await writeFile(join(directory, 'file'), 'one')
  expect(await store.digestOf(join(directory, 'file'))).toBe(sha256('one'))
  await expect(store.blobs.put(Buffer.from('x'))).rejects.toThrow(/opened for reading/)
})

test('a session removes what is left of one whose remover died, and leaves alone what is just being made', async () => {
  const sessions = join(directory, 'sessions')
  await mkdir(join(sessions, 'halfremoved00', 'store', 'tree'), { recursive: true })
  await mkdir(join(sessions, '.justbeingmade'))
  const { close } = await openStore(directory)
  try {
    await expect.poll(() => readdir(sessions), { timeout: 5_000 }).not.toContain('halfremoved00')
    expect(await readdir(sessions)).toContain('.justbeingmade')
  } finally {
    await close()
  }
})
