/** Pulling from docker-registry into a store, and pushing back; skopeo on the other side. */

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { describe, expect, test, vi } from 'vitest'
import { digestOfBytes } from '../../../src/engine/image/digest-of.js'
import type { ProgressEvent } from '../../../src/engine/registry/progress.js'
import { pull } from '../../../src/engine/registry/pull.js'
import { push } from '../../../src/engine/registry/push.js'
import { publish as publishImage } from '../../support/publish.js'
import { missingRegistry, type Registry, startRegistry } from '../../support/registry.js'
import { leftovers, makeTar, obstacle, openPlace } from './support.js'

const run = promisify(execFile)
const missing = missingRegistry() || obstacle()
const hasSkopeo = existsSync('/usr/bin/skopeo')

interface Layer {
  readonly tar: Buffer
  /** @default gzip */
  readonly mediaType?: string
  readonly bytes?: Buffer
}

function publish(registry: Registry, repository: string, tag: string, layers: readonly Layer[]): Promise<string> {
  const blobs = layers.map(({ tar, bytes = gzipSync(tar), ...more }) => ({
    diffId: digestOfBytes(tar),
    bytes,
    ...more,
  }))
  return publishImage(registry, repository, tag, blobs)
}

const LOWER = makeTar({ 'etc/passwd': 'root:x:0:0::/:/bin/sh\n', 'usr/share/text': 'lower\n'.repeat(10_000) })
const UPPER = makeTar({ 'usr/share/text': 'upper\n', 'opt/data': Buffer.alloc(3_000_000, 7) })

describe.skipIf(missing)(`pull (${missing || 'docker-registry'})`, () => {
  test('unpacks the layers, keeps the blobs, and names the image', async () => {
    await using registry = await startRegistry()
    const digest = await publish(registry, 'team/app', '1', [{ tar: LOWER }, { tar: UPPER }])
    await using place = await openPlace()
    const events: ProgressEvent[] = []
    const image = await pull(place.context, `${registry.host}/team/app:1`, {
      onProgress: (event) => events.push(event),
    })
    expect(image.references).toEqual([`${registry.host}/team/app:1`])
    expect(image.digests).toEqual([`${registry.host}/team/app@${digest}`])
    expect(image.manifest).toBe(digest)
    expect(image.config.config?.Cmd).toEqual(['/bin/sh'])
    const [lower, upper] = image.layers
    expect(readFileSync(join(lower!.tree, 'usr/share/text'), 'utf8')).toBe('lower\n'.repeat(10_000))
    expect(readFileSync(join(upper!.tree, 'usr/share/text'), 'utf8')).toBe('upper\n')
    expect(lower!.diffId).toBe(digestOfBytes(LOWER))
    for (const layer of image.layers) expect(await place.store.blobs.has(layer.blobs[0]!.digest)).toBe(true)
    for (const layer of image.layers) {
      const id = layer.blobs[0]!.digest
      const statuses = events.flatMap((event) => (event.type === 'layer' && event.id === id ? [event.status] : []))
      expect(statuses[0]).toBe('waiting')
      expect(statuses).toContain('downloading')
      expect(statuses.at(-1)).toBe('done')
    }
    expect(leftovers(place.store.home)).toEqual([])
  })

  test('asks one question when the image is here already', async () => {
    await using registry = await startRegistry()
    await publish(registry, 'app', '1', [{ tar: LOWER }])
    await using place = await openPlace()
    const first = await pull(place.context, `${registry.host}/app:1`)
    registry.forget()
    const second = await pull(place.context, `${registry.host}/app:1`)
    expect(second.id).toBe(first.id)
    await vi.waitFor(() => expect(registry.requests.map(({ method }) => method)).toEqual(['HEAD']))
    await publish(registry, 'app', '1', [{ tar: LOWER }, { tar: UPPER }])
    registry.forget()
    const third = await pull(place.context, `${registry.host}/app:1`)
    expect(third.id).not.toBe(first.id)
    await vi.waitFor(() => expect(gets(registry, 'blobs')).toHaveLength(2)) // config and the new layer
  })

  test('reads gzip, zstd and layers that are not compressed', async () => {
    await using registry = await startRegistry()
    const tars = [LOWER, UPPER, makeTar({ third: 'x' })]
    const zstd = (await runWithInput('zstd', ['-c'], tars[1]!)) as Buffer
    const OCI = 'application/vnd.oci.image.layer.v1.tar'
    await publish(registry, 'app', '1', [
      { tar: tars[0]!, bytes: tars[0]!, mediaType: OCI },
      { tar: tars[1]!, bytes: zstd, mediaType: `${OCI}+zstd` },
      { tar: tars[2]! },
    ])
    await using place = await openPlace()
    const image = await pull(place.context, `${registry.host}/app:1`)
    expect(image.layers.map(({ diffId }) => diffId)).toEqual(tars.map((tar) => digestOfBytes(tar)))
    expect(readFileSync(join(image.layers[1]!.tree, 'usr/share/text'), 'utf8')).toBe('upper\n')
  })

  test('fetches a blob that is damaged or gone again, and a layer that is gone from its blob', async () => {
    await using registry = await startRegistry()
    await publish(registry, 'app', '1', [{ tar: LOWER }, { tar: UPPER }])
    await using place = await openPlace()
    const { store, context } = place
    const { layers, id } = await pull(context, `${registry.host}/app:1`)
    const remove = (index: number) =>
      rmSync(join(store.home, 'layers', layers[index]!.chainId.slice('sha256:'.length)), { recursive: true })
    const again = async () => {
      registry.forget()
      const image = await pull(context, `${registry.host}/app:1`)
      expect(image.id).toBe(id)
      expect(readFileSync(join(image.layers[1]!.tree, 'usr/share/text'), 'utf8')).toBe('upper\n')
      await new Promise((resolve) => setTimeout(resolve, 50))
      return gets(registry, 'blobs')
    }
    remove(1)
    expect(await again()).toEqual([])
    const blob = layers[1]!.blobs[0]!
    for (const damage of [
      (path: string) => truncateSync(path, 100),
      (path: string) => writeFileSync(path, Buffer.alloc(blob.size)),
      (path: string) => {
        const bytes = readFileSync(path)
        bytes[bytes.length - 2]! ^= 1 // the length at the end of gzip: seen by the decompressor first
        writeFileSync(path, bytes)
      },
      (path: string) => rmSync(path),
    ]) {
      remove(1)
      damage(store.blobs.path(blob.digest))
      expect(await again()).toHaveLength(1)
      await store.blobs.verify(blob.digest)
    }
    rmSync(store.blobs.path(id))
    expect(await again()).toHaveLength(1)
  })

  test('gives directories that only the archive of a lower layer mentions what they have there', async () => {
    await using registry = await startRegistry()
    const lower = await tarOf('mkdir -p a/b && chmod 1777 a && chmod 700 a/b && chown 12:34 a/b')
    const upper = await tarOf('mkdir -p a/b && echo hi > a/b/file', ['a/b/file'])
    await publish(registry, 'app', '1', [{ tar: lower }, { tar: upper }])
    await using place = await openPlace()
    const { layers } = await pull(place.context, `${registry.host}/app:1`)
    const { mode, uid, gid } = statSync(join(layers[1]!.tree, 'a/b'))
    expect([mode & 0o7777, uid, gid]).toEqual([0o700, 12, 34])
    expect(statSync(join(layers[1]!.tree, 'a')).mode & 0o7777).toBe(0o1777)
  })

  test('fetches each blob once when two pull the same image at the same time, with sessions of their own', async () => {
    await using registry = await startRegistry()
    const tars = [LOWER, UPPER, makeTar({ third: 'x' }), makeTar({ fourth: Buffer.alloc(1_000_000, 3) })]
    await publish(
      registry,
      'app',
      '1',
      tars.map((tar) => ({ tar })),
    )
    await using place = await openPlace()
    await using other = await place.another()
    registry.forget()
    const name = `${registry.host}/app:1`
    const images = await Promise.all([pull(place.context, name), pull(other, name), pull(other, name)])
    expect(new Set(images.map(({ id }) => id)).size).toBe(1)
    await vi.waitFor(() => expect(gets(registry, 'blobs')).toHaveLength(tars.length + 1))
    expect(new Set(gets(registry, 'blobs')).size).toBe(tars.length + 1)
  })

  test.skipIf(!hasSkopeo)('pulls what skopeo wrote, and skopeo reads what we push', async () => {
    await using registry = await startRegistry()
    await publish(registry, 'app', 'ours', [{ tar: LOWER }, { tar: UPPER }])
    const plain = ['--insecure-policy', '--override-os=linux']
    const copy = (...words: string[]) => run('skopeo', [...plain, 'copy', '--quiet', ...words])
    const at = (name: string) => `docker://${registry.host}/${name}`
    await copy('--src-tls-verify=false', '--dest-tls-verify=false', '--format=v2s2', at('app:ours'), at('other:docker'))
    await using place = await openPlace()
    const image = await pull(place.context, `${registry.host}/other:docker`)
    expect(JSON.parse((await place.store.blobs.read(image.manifest!, 1e6)).toString()).mediaType).toMatch(/docker/)
    await place.store.images.tag(image.id, `${registry.host}/pushed:1`)
    const pushed = await push(place.context, `${registry.host}/pushed:1`)
    expect(pushed.digest).toBe(image.manifest) // unchanged
    const { stdout } = await run('skopeo', [...plain, 'inspect', '--tls-verify=false', at('pushed:1')])
    expect(JSON.parse(stdout)).toMatchObject({ Digest: pushed.digest, Os: 'linux' })
    const target = join(place.directory, 'copied')
    await copy('--src-tls-verify=false', at('pushed:1'), `dir:${target}`)
    const blobs = image.layers.map(({ blobs }) => blobs[0]!.digest.slice('sha256:'.length))
    expect(readdirSync(target)).toEqual(expect.arrayContaining(blobs))
    for (const name of blobs) expect(sha256(readFileSync(join(target, name)))).toBe(name)
  })

  test('pushes nothing that the registry has, and mounts what another repository has', async () => {
    await using registry = await startRegistry()
    await publish(registry, 'base', '1', [{ tar: LOWER }, { tar: UPPER }])
    await using place = await openPlace()
    const image = await pull(place.context, `${registry.host}/base:1`)
    await place.store.images.tag(image.id, `${registry.host}/copy:1`)
    const statuses = async () => {
      const events: ProgressEvent[] = []
      await push(place.context, `${registry.host}/copy:1`, { onProgress: (event) => events.push(event) })
      return new Set(events.flatMap((event) => (event.type === 'layer' ? [event.status] : [])))
    }
    expect(await statuses()).toEqual(new Set(['mounted']))
    expect(await statuses()).toEqual(new Set(['exists']))
  })

  test('packs layers that were made here, compressed, and the same bytes each time', async () => {
    await using registry = await startRegistry()
    await using place = await openPlace()
    const { store, session } = place
    const { digestLayer, unpackLayer } = await import('../../../src/engine/store/layer-archive.js')
    const directory = await store.temporary()
    await run('mkdir', [directory])
    const { bytes } = await unpackLayer(session, join(directory, 'tree'), LOWER, { layer: true })
    const { digest: diffId } = await digestLayer(session, { tree: join(directory, 'tree') })
    await store.layers.adopt(directory, { diffId, parent: undefined, sizeBytes: bytes, origin: 'packed' })
    const config = { architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [diffId] } }
    const name = `${registry.host}/made:1`
    await store.images.put({ config: Buffer.from(JSON.stringify(config)), references: [name] })
    const first = await push(place.context, name)
    await using fresh = await openPlace()
    const image = await pull(fresh.context, name)
    expect(image.layers[0]!.diffId).toBe(diffId)
    expect(readFileSync(join(image.layers[0]!.tree, 'etc/passwd'), 'utf8')).toMatch(/^root/)
    await store.blobs.remove(image.layers[0]!.blobs[0]!.digest)
    await using empty = await startRegistry()
    await store.images.tag(image.id, `${empty.host}/made:1`)
    expect((await push(place.context, `${empty.host}/made:1`)).digest).toBe(first.digest)
  })
})

function gets(registry: Registry, kind: string): string[] {
  return registry.requests
    .filter(({ method, path }) => method === 'GET' && path.includes(`/${kind}/`))
    .map(({ path }) => path)
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function runWithInput(program: string, words: string[], input: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, words, { encoding: 'buffer', maxBuffer: 1 << 28 }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    )
    child.stdin!.end(input)
  })
}

/** A tar of what a script makes in an empty directory, or of some of it. */
async function tarOf(script: string, names: readonly string[] = ['.']): Promise<Buffer> {
  const { stdout } = await run(
    'sh',
    ['-c', `d=$(mktemp -d) && cd $d && ${script} && tar -c ${names.join(' ')}; rm -rf $d`],
    {
      encoding: 'buffer',
      maxBuffer: 1 << 28,
    },
  )
  return stdout
}
