/** Archives of images for tests, made by hand: what other programs write, and what nobody should. */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { temporaryDirectory } from '../../support/temporary.js'

/** What is in an archive: text, bytes, or a symbolic link. */
export type Files = Readonly<Record<string, string | Uint8Array | { readonly link: string }>>

export function digest(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** A tar of these files. The same files give the same bytes. */
export function tarOf(files: Files): Buffer {
  const directory = temporaryDirectory('tar')
  try {
    chmodSync(directory, 0o755)
    for (const [name, content] of Object.entries(files)) {
      const path = join(directory, name)
      mkdirSync(dirname(path), { recursive: true })
      if (typeof content === 'object' && 'link' in content) symlinkSync(content.link, path)
      else writeFileSync(path, content)
    }
    const words = ['--create', '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner']
    return execFileSync(
      'tar',
      [
        ...words,
        `--directory=${directory}`,
        ...Object.keys(files)
          .map((name) => name.split('/')[0]!)
          .filter((name, index, all) => all.indexOf(name) === index),
      ],
      { maxBuffer: 1 << 28 },
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
}

export interface LayerSpec {
  /** The layer's archive, uncompressed. */
  readonly tar: Uint8Array
}

/** An image config for these layers. */
export function configOf(layers: readonly Uint8Array[], config: object = {}): string {
  return JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    created: '2024-01-01T00:00:00Z',
    config,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${digest(layer)}`) },
  })
}

/** As Docker wrote them until 24: a directory for each layer, equal layers as links. */
export function legacyDockerArchive(layers: readonly Uint8Array[], tags: readonly string[]): Files {
  const config = configOf(layers, { Env: ['PATH=/bin'] })
  const files: Record<string, string | Uint8Array | { link: string }> = {}
  const first = new Map<string, string>()
  const names = layers.map((layer, index) => {
    const id = digest(`layer ${index}`)
    const known = first.get(digest(layer))
    files[`${id}/VERSION`] = '1.0'
    files[`${id}/json`] = '{}'
    files[`${id}/layer.tar`] = known === undefined ? layer : { link: `../${known}/layer.tar` }
    first.set(digest(layer), known ?? id)
    return `${id}/layer.tar`
  })
  files[`${digest(config)}.json`] = config
  files['manifest.json'] = JSON.stringify([{ Config: `${digest(config)}.json`, RepoTags: tags, Layers: names }])
  return files
}

export interface LayoutOptions {
  /** Compresses a layer. */
  readonly pack?: (layer: Uint8Array) => Uint8Array
  readonly mediaType?: string
  readonly annotations?: Readonly<Record<string, string>>
}

/** An OCI layout. */
export function ociLayout(
  layers: readonly Uint8Array[],
  options: LayoutOptions = {},
): Record<string, string | Uint8Array> {
  const { pack = (layer) => layer, mediaType = 'application/vnd.oci.image.layer.v1.tar', annotations } = options
  const files: Record<string, string | Uint8Array> = { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}' }
  const blob = (type: string, bytes: string | Uint8Array) => {
    files[`blobs/sha256/${digest(bytes)}`] = bytes
    return { mediaType: type, digest: `sha256:${digest(bytes)}`, size: Buffer.byteLength(bytes) }
  }
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: blob('application/vnd.oci.image.config.v1+json', configOf(layers, { Env: ['PATH=/bin'] })),
    layers: layers.map((layer) => blob(mediaType, pack(layer))),
  })
  const descriptor = blob('application/vnd.oci.image.manifest.v1+json', manifest)
  files['index.json'] = JSON.stringify({
    schemaVersion: 2,
    manifests: [{ ...descriptor, ...(annotations ? { annotations } : {}) }],
  })
  return files
}
