/** Puts images into a registry with our own client, made of whatever layers a test wants. */

import { digestOfBytes } from '../../src/engine/image/digest-of.ts'
import { RegistryClient } from '../../src/engine/registry/client.ts'
import { Transport } from '../../src/engine/registry/transport.ts'
import type { Registry } from './registry.ts'

const TYPES = {
  oci: {
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
}

export interface PublishedLayer {
  /** Digest of the tar. */
  readonly diffId: string
  /** The blob. */
  readonly bytes: Buffer
  /** @default a tar under gzip */
  readonly mediaType?: string
}

/** One blob after another. Resolves to the manifest's digest. */
export async function publish(
  registry: Registry,
  repository: string,
  tag: string,
  layers: readonly PublishedLayer[],
  kind: keyof typeof TYPES = 'oci',
): Promise<string> {
  const transport = new Transport()
  const client = new RegistryClient({
    transport,
    registry: registry.host,
    repository,
    purpose: { action: 'push', subject: repository },
    credentials: () => undefined,
  })
  const send = async (bytes: Buffer, mediaType: string) => {
    const content = { digest: digestOfBytes(bytes), size: bytes.length }
    await client.upload(content, () => bytes)
    return { mediaType, ...content }
  }
  const types = TYPES[kind]
  const config = {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Cmd: ['/bin/sh'] },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: await send(Buffer.from(JSON.stringify(config)), types.config),
    layers: [] as unknown[],
  }
  for (const { bytes, mediaType } of layers) manifest.layers.push(await send(bytes, mediaType ?? types.layer))
  const digest = await client.putManifest(tag, Buffer.from(JSON.stringify(manifest)), types.manifest)
  await transport.close()
  return digest
}
