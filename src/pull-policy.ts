/** When an image is fetched from its registry. */

import { MayflyError } from './engine/errors.js'

/** What is here under the image's name. */
export interface LocalImage {
  /** When it came here, if that is known. */
  readonly arrivedAt: Date | undefined
}

/** Decides whether an image that is here already is fetched again. One that is not here always is, but for `'never'`. */
export interface ImagePullPolicy {
  /** Gets what is here, if there is something. One that throws fails the start with HOOK_FAILED. */
  shouldPull(image?: LocalImage): boolean | 'never'
}

/**
 * The usual policies.
 *
 * @example
 * import { GenericContainer, PullPolicy } from 'mayfly'
 *
 * const nightly = new GenericContainer('app:nightly').withPullPolicy(PullPolicy.olderThan({ hours: 12 }))
 */
// biome-ignore lint/complexity/noStaticOnlyClass: testcontainers has it so, and users know it
export class PullPolicy {
  /** Only when it is missing. */
  static defaultPolicy(): ImagePullPolicy {
    return { shouldPull: () => false }
  }

  /** Each time. Only what has changed is transferred. */
  static alwaysPull(): ImagePullPolicy {
    return { shouldPull: () => true }
  }

  /** Never: a start fails when it is not here. */
  static neverPull(): ImagePullPolicy {
    return { shouldPull: () => 'never' }
  }

  /** When it is missing, or came here longer ago than this. */
  static olderThan(age: {
    readonly days?: number
    readonly hours?: number
    readonly minutes?: number
    readonly milliseconds?: number
  }): ImagePullPolicy {
    const { days = 0, hours = 0, minutes = 0, milliseconds = 0 } = age
    const limitMs = ((days * 24 + hours) * 60 + minutes) * 60_000 + milliseconds
    if (!(limitMs >= 0)) {
      throw new MayflyError('INVALID_OPTION', 'age: expected days, hours, minutes or milliseconds from 0 on', {
        field: 'age',
        value: age,
      })
    }
    return {
      shouldPull: (image) => image?.arrivedAt === undefined || Date.now() - image.arrivedAt.getTime() > limitMs,
    }
  }
}
