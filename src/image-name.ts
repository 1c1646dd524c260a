/** Names of images, in parts. */

/**
 * Where an image is and what it is called.
 *
 * @example
 * import { ImageName } from 'mayfly'
 *
 * const { registry, image, tag } = ImageName.fromString('localhost:5000/team/app:1.2')
 */
export class ImageName {
  readonly registry: string | undefined
  readonly image: string
  readonly tag: string
  readonly digest: string | undefined
  /** All of it, as it is written: an id alone, without `latest`. */
  readonly string: string

  constructor(registry: string | undefined, image: string, tag: string, digest?: string) {
    this.registry = registry
    this.image = image
    this.tag = tag
    this.digest = digest
    const name = registry === undefined ? image : `${registry}/${image}`
    const isId = tag === 'latest' && /^[0-9a-f]{64}$/.test(image)
    const end = isId ? '' : `${tag.startsWith('sha256:') ? '@' : ':'}${tag}`
    this.string = digest === undefined ? `${name}${end}` : `${name}:${tag}@${digest}`
    Object.freeze(this)
  }

  /** Reads `[registry/]image[:tag][@digest]`. @default tag: 'latest', or the digest where there is one */
  static fromString(text: string): ImageName {
    const [name, digest] = text.split('@') as [string, string?]
    const slash = name.indexOf('/')
    const first = name.slice(0, Math.max(slash, 0))
    const hasRegistry = slash > 0 && (/[.:]/.test(first) || first === 'localhost')
    const rest = hasRegistry ? name.slice(slash + 1) : name
    const colon = rest.lastIndexOf(':')
    const image = colon < 0 ? rest : rest.slice(0, colon)
    const tag = colon < 0 ? undefined : rest.slice(colon + 1)
    const registry = hasRegistry ? first : undefined
    if (digest !== undefined && tag === undefined) return new ImageName(registry, image, digest)
    return new ImageName(registry, image, tag ?? 'latest', digest)
  }

  /** Whether both are written the same. */
  equals(other: ImageName): boolean {
    return this.string === other.string
  }

  /** As `string`. */
  toString(): string {
    return this.string
  }
}
