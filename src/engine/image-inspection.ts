/** What is known of an image, in Docker's words. */

import type { HistoryEntry, RuntimeConfig } from './image/config.js'
import { familiarReference, parseReference } from './image/reference.js'
import type { StoredImage } from './store/images.js'

/** What `docker image inspect` gives, as far as it has a meaning here. */
export interface ImageInspection {
  readonly Id: string
  readonly RepoTags: readonly string[]
  readonly RepoDigests: readonly string[]
  readonly Comment: string
  /** RFC 3339. */
  readonly Created: string
  readonly Author: string
  readonly Config: RuntimeConfig
  readonly Architecture: string
  readonly Variant?: string
  readonly Os: string
  /** Bytes. */
  readonly Size: number
  readonly RootFS: { readonly Type: 'layers'; readonly Layers: readonly string[] }
}

/** A step that an image was made in. */
export interface ImageHistoryEntry {
  /** The image's for the last step; undefined for those before, which have none (`<missing>`). */
  readonly id: string | undefined
  readonly createdAt: Date | undefined
  readonly createdBy: string
  readonly comment: string
  /** Of its layer; 0 when it made none. */
  readonly sizeBytes: number
  readonly isEmptyLayer: boolean
  /** Names, as people write them; of the last step only. */
  readonly tags: readonly string[]
}

export function inspectImage(image: StoredImage): ImageInspection {
  const { config } = image
  return {
    Id: image.id,
    RepoTags: familiar(image.references),
    RepoDigests: familiar(image.digests),
    Comment: config.history?.at(-1)?.comment ?? '',
    Created: config.created ?? image.createdAt.toISOString(),
    Author: config.author ?? '',
    Config: config.config ?? {},
    Architecture: config.architecture,
    ...(config.variant ? { Variant: config.variant } : {}),
    Os: config.os,
    Size: image.sizeBytes,
    RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids },
  }
}

/** The last step first. A config may lack a history, or have one that does not fit its layers: then the layers are told one by one. */
export function historyOf(image: StoredImage): ImageHistoryEntry[] {
  const { history = [], rootfs } = image.config
  const withLayer = history.filter(({ empty_layer }) => !empty_layer).length
  const fits = withLayer === rootfs.diff_ids.length
  const steps: readonly HistoryEntry[] = fits ? history : rootfs.diff_ids.map(() => ({}))
  let layer = 0
  const entries = steps.map(({ created, created_by, comment, empty_layer }): ImageHistoryEntry => {
    const date = new Date(created ?? '')
    return {
      id: undefined,
      createdAt: Number.isNaN(date.getTime()) ? undefined : date,
      createdBy: created_by ?? '',
      comment: comment ?? '',
      sizeBytes: empty_layer ? 0 : (image.layers[layer++]?.sizeBytes ?? 0),
      isEmptyLayer: empty_layer === true,
      tags: [],
    }
  })
  const last = entries.pop()
  if (last) entries.push({ ...last, id: image.id, tags: familiar(image.references) })
  return entries.reverse()
}

function familiar(references: readonly string[]): string[] {
  return references.map((reference) => familiarReference(parseReference(reference)))
}
